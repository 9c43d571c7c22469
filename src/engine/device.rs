use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Where a plan runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The fastest executor that this build and this machine have. In this version: [`Device::Host`].
    #[default]
    Auto,
    /// The CPU.
    Host,
}

impl Device {
    /// What is there. Never fails in this version, which has the host executor only.
    ///
    /// # Errors
    /// None yet; a driver that answers with a fault will be one.
    pub fn auto() -> Result<Self> {
        Ok(Device::Auto)
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Device::Auto),
            "host" | "cpu" => Ok(Device::Host),
            "virtual" => Err(Error::Unsupported(
                "the device `virtual` is not in this version yet; use auto or host".into(),
            )),
            _ if text == "cuda" || text.starts_with("cuda:") => Err(Error::Unsupported(format!(
                "the device `{text}`: this version has no CUDA executor yet; use auto or host"
            ))),
            _ => Err(Error::Invalid(format!(
                "`{text}` is no device; there are auto and host"
            ))),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Device::Auto => "auto",
            Device::Host => "host",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_display_writes() {
        for device in [Device::Auto, Device::Host] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
    }

    #[test]
    fn a_device_to_come_is_told_from_a_typing_error() {
        for name in ["cuda:0", "cuda", "virtual"] {
            let error = name.parse::<Device>().unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)), "{error}");
            assert!(error.to_string().contains("use auto or host"), "{error}");
        }
        let error = "gpu".parse::<Device>().unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
}
