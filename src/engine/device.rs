use crate::device::Survey;
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Where a plan runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The fastest executor that this build and this machine have: see [`Device::resolve`].
    #[default]
    Auto,
    /// The CPU.
    Host,
    /// A GPU, by its ordinal as the CUDA driver counts.
    Cuda(u32),
    /// The virtual GPU: the program of a GPU, run on the CPU. For tests; slower than [`Device::Host`] by far.
    Virtual,
}

impl Device {
    /// What [`Device::Auto`] comes to here.
    ///
    /// # Errors
    /// Those of [`Device::resolve`].
    pub fn auto() -> Result<Self> {
        Ok(Device::Auto.resolve()?.0)
    }

    /// The device that an engine takes, and why. For [`Device::Auto`] the CUDA driver is loaded and asked; the others come
    /// to themselves, whether they are there or not.
    ///
    /// # Errors
    /// None in this version: that something is not there is a reason.
    pub fn resolve(&self) -> Result<(Device, String)> {
        match self {
            Device::Auto => Ok(Device::choose(&Survey::look())),
            device => Ok((*device, "it was asked for".to_owned())),
        }
    }

    /// The device for [`Device::Auto`] where this was found, and why.
    pub fn choose(found: &Survey) -> (Device, String) {
        match found.usable_device() {
            Ok(device) => (
                Device::Cuda(device.ordinal),
                format!("{} is there", device.facts.name),
            ),
            Err(reason) => (Device::Host, reason),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Reads `auto`, `host` or `cpu`, `cuda` (the first GPU), `cuda:N`, or `virtual`.
    fn from_str(text: &str) -> Result<Self> {
        if let Some(ordinal) = text.strip_prefix("cuda:") {
            return ordinal.parse().map(Device::Cuda).map_err(|_| {
                Error::Invalid(format!(
                    "`{text}` is no device: `{ordinal}` is no number of a GPU, as in cuda:0"
                ))
            });
        }
        match text {
            "auto" => Ok(Device::Auto),
            "host" | "cpu" => Ok(Device::Host),
            "cuda" => Ok(Device::Cuda(0)),
            "virtual" => Ok(Device::Virtual),
            _ => Err(Error::Invalid(format!(
                "`{text}` is no device; there are auto, host, cuda, cuda:N and virtual"
            ))),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Host => f.write_str("host"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Device::Virtual => f.write_str("virtual"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_display_writes() {
        for device in [
            Device::Auto,
            Device::Host,
            Device::Cuda(0),
            Device::Cuda(11),
            Device::Virtual,
        ] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        assert_eq!("cpu".parse::<Device>().unwrap(), Device::Host);
    }

    #[test]
    fn a_typing_error_is_told() {
        for (name, told) in [
            ("gpu", "there are auto, host, cuda, cuda:N and virtual"),
            ("", "there are auto"),
            ("CUDA", "there are auto"),
            ("cuda:", "`` is no number"),
            ("cuda:-1", "`-1` is no number"),
            ("cuda:99999999999", "no number of a GPU"),
        ] {
            let error = name.parse::<Device>().unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    #[test]
    fn what_was_asked_for_is_taken() {
        for device in [Device::Host, Device::Cuda(3), Device::Virtual] {
            assert_eq!(device.resolve().unwrap().0, device);
        }
    }
}
