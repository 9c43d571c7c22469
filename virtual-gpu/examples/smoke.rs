use virtual_gpu::*;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let ptx = std::fs::read_to_string(path).unwrap();
    let module = match Module::from_ptx(&ptx) {
        Ok(m) => m,
        Err(e) => {
            println!("{e}");
            return;
        }
    };
    println!("{module:?}");
    let n = 1000u32;
    let mut device = Device::new(Profile::h100());
    let input: Vec<u8> = (0..n)
        .flat_map(|i| (i as f32 * 0.01).to_le_bytes())
        .collect();
    let a = device.alloc(4 * n as usize).unwrap();
    let b = device.alloc(4 * n as usize).unwrap();
    device.write(a, &input).unwrap();
    let mut params = Vec::new();
    params.extend(a.0.to_le_bytes());
    params.extend(b.0.to_le_bytes());
    params.extend(n.to_le_bytes());
    let mut config = LaunchConfig::linear(8, 128);
    config.dynamic_shared = 512;
    let report = device
        .launch(&module, "k", &config, &params, &LaunchOptions::default())
        .unwrap();
    for f in &report.findings {
        println!("{f}");
    }
    println!(
        "{} {:?} {}",
        report.completed, report.counters, report.printed
    );
    let mut out = vec![0u8; 4 * n as usize];
    device.read(b, &mut out).unwrap();
    for i in [0, 1, 2, 3, 500, 999] {
        println!(
            "{i} {}",
            f32::from_le_bytes(out[4 * i..4 * i + 4].try_into().unwrap())
        );
    }
}
