use crate::args::RunArgs;
use crate::counters::Counters;
use crate::failure::Usage;
use anyhow::{Result, bail};
use std::env;
use stheno::device::{Context, Driver, DriverKind};
use stheno::engine::Device;

/// Where everything runs, and how it is observed there.
pub struct Place {
    pub context: Context,
    /// Of the virtual GPU; `None` on a real one, which is timed.
    pub counters: Option<Counters>,
}

impl Place {
    /// The device that the flags name. Must come before anything else uses a driver or the environment.
    pub fn open(args: &RunArgs) -> Result<Place> {
        let device: Device = args.device.parse().map_err(|e| Usage(format!("{e}")))?;
        let device = match device {
            Device::Auto => match device.resolve()?.0 {
                Device::Cuda(ordinal) => Device::Cuda(ordinal),
                _ => Device::Virtual,
            },
            Device::Host => bail!(Usage(
                "--device host: kernels run on a GPU or on the virtual one; give cuda:N or virtual"
                    .into()
            )),
            device => device,
        };
        let Device::Cuda(ordinal) = device else {
            return Self::open_virtual(args);
        };
        if args.sms.is_some() {
            bail!(Usage(
                "--sms is for the virtual GPU; a real one has what it has".into()
            ));
        }
        let context = Context::new(&Driver::load(DriverKind::Cuda)?, ordinal)?;
        if context.facts().is_virtual {
            bail!(Usage(
                "the system's CUDA driver is that of the virtual GPU; ask for it with --device virtual"
                    .into()
            ));
        }
        Ok(Place {
            context,
            counters: None,
        })
    }

    fn open_virtual(args: &RunArgs) -> Result<Place> {
        let counters = Counters::create()?;
        let mut settings = vec![(
            "VIRTUAL_GPU_COUNTERS",
            counters.path().as_os_str().to_owned(),
        )];
        // Products in f32 give the same counts in a fifth of the time; bits are for tests.
        for (name, value) in [("VIRTUAL_GPU_MMA", "fast"), ("VIRTUAL_GPU_CHECKS", "none")] {
            if env::var_os(name).is_none() {
                settings.push((name, value.into()));
            }
        }
        if let Some(sms) = args.sms {
            settings.push(("VIRTUAL_GPU_SMS", sms.to_string().into()));
        }
        for (name, value) in settings {
            // SAFETY: `main` has started no thread yet, so nothing reads the environment meanwhile.
            unsafe { env::set_var(name, value) };
        }
        let context = Context::new(&Driver::load(DriverKind::Virtual)?, 0)?;
        Ok(Place {
            context,
            counters: Some(counters),
        })
    }
}
