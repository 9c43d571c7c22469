//! The arguments of a case on the device: contents before the launch, results after it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use virtual_gpu::case::{Arg, BufferArg, Case, Role, contents};
use virtual_gpu::{Device, DevicePointer, KernelInfo};

use crate::outcome::Failure;

/// What the launch gets, and where its buffers are.
pub struct Arguments {
    /// The bytes of the kernel's parameter space.
    pub parameters: Vec<u8>,
    buffers: Vec<(usize, DevicePointer, usize, Role)>,
}

impl Arguments {
    /// Allocates and fills the buffers of `case`; files of `inputs` come before generated contents.
    pub fn place(
        case: &Case,
        kernel: &KernelInfo<'_>,
        device: &mut Device,
        inputs: Option<&Path>,
    ) -> Result<Self, Failure> {
        let layout = kernel.parameters();
        if layout.len() != case.args.len() {
            return Err(Failure::bad_use(format!(
                "the case gives {} arguments, but {} takes {}",
                case.args.len(),
                case.kernel,
                layout.len()
            )));
        }
        let mut parameters = vec![0; kernel.parameter_bytes() as usize];
        let mut buffers = Vec::new();
        // Maps may come before the buffers that they are of.
        for (index, buffer) in case.buffers() {
            let pointer = upload(index, buffer, device, inputs)?;
            buffers.push((index, pointer, buffer.bytes(), buffer.role()));
        }
        let address = |index: usize| {
            let found = buffers.iter().find(|(of, ..)| *of == index);
            found.map_or(0, |(_, pointer, ..)| pointer.0)
        };
        for (index, (arg, place)) in case.args.iter().zip(layout).enumerate() {
            let bytes = match arg {
                Arg::Scalar(scalar) => scalar.bytes().to_vec(),
                Arg::Buffer(_) => address(index).to_le_bytes().to_vec(),
                Arg::TensorMap(map) => map.bytes(address(map.of())).to_vec(),
            };
            // A struct may end in bytes of padding.
            if bytes.len().next_multiple_of(place.align.max(1) as usize) != place.bytes as usize {
                return Err(Failure::bad_use(format!(
                    "argument {index} has {} bytes, but {} takes {} there",
                    bytes.len(),
                    case.kernel,
                    place.bytes
                )));
            }
            parameters[place.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        Ok(Self {
            parameters,
            buffers,
        })
    }

    /// Writes `argN.out.bin` for each result.
    pub fn save(&self, device: &Device, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        for &(index, pointer, len, role) in &self.buffers {
            if role == Role::In {
                continue;
            }
            let mut data = vec![0; len];
            device.read(pointer, &mut data)?;
            let path = folder.join(format!("arg{index}.out.bin"));
            fs::write(&path, data)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }
}

fn upload(
    index: usize,
    buffer: &BufferArg,
    device: &mut Device,
    inputs: Option<&Path>,
) -> Result<DevicePointer, Failure> {
    let memory =
        |error| Failure::Use(anyhow::Error::new(error).context(format!("argument {index}")));
    let pointer = device
        .alloc_named(buffer.bytes(), format!("arg{index}"))
        .map_err(memory)?;
    let data = match given(index, buffer, inputs)? {
        Some(data) => Some(data),
        None => contents(index, buffer),
    };
    if let Some(data) = data {
        device.write(pointer, &data).map_err(memory)?;
    }
    Ok(pointer)
}

/// The contents of `argN.in.bin`, if the folder has that file.
fn given(
    index: usize,
    buffer: &BufferArg,
    inputs: Option<&Path>,
) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = inputs.map(|folder| folder.join(format!("arg{index}.in.bin"))) else {
        return Ok(None);
    };
    if !path.exists() {
        return Ok(None);
    }
    let data = fs::read(&path)
        .with_context(|| format!("{} cannot be read", path.display()))
        .map_err(Failure::Use)?;
    if data.len() != buffer.bytes() {
        return Err(Failure::Use(anyhow!(
            "{} has {} bytes, but argument {index} has {}",
            path.display(),
            data.len(),
            buffer.bytes()
        )));
    }
    Ok(Some(data))
}

/// A folder that must be there.
pub fn folder(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    if path.is_dir() {
        Ok(path)
    } else {
        Err("there is no such folder".into())
    }
}
