use virtual_gpu::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let ptx = std::fs::read_to_string(&args[1]).unwrap();
    let module = Module::from_ptx(&ptx).unwrap();
    for (checks, counters) in [
        (Checks::None, false),
        (Checks::Bounds, false),
        (Checks::Bounds, true),
        (Checks::All, true),
    ] {
        let mut device = Device::new(Profile::h100());
        let out = device.alloc(4 * 1024).unwrap();
        let mut p = Vec::new();
        p.extend(out.0.to_le_bytes());
        p.extend(20000u32.to_le_bytes());
        p.extend(7u32.to_le_bytes());
        let options = LaunchOptions {
            checks,
            counters,
            mma: MmaMode::Fast,
            ..Default::default()
        };
        let counted = device
            .launch(
                &module,
                "alu",
                &LaunchConfig::linear(4, 128),
                &p,
                &LaunchOptions {
                    counters: true,
                    checks: Checks::None,
                    ..options
                },
            )
            .unwrap();
        let start = cpu();
        device
            .launch(&module, "alu", &LaunchConfig::linear(4, 128), &p, &options)
            .unwrap();
        let t = cpu() - start;
        println!(
            "{checks:?} counters {counters}: {:.1} M warp-instr/s",
            counted.counters.warp_instructions as f64 / t / 1e6
        );
    }
}

fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e-9
}
