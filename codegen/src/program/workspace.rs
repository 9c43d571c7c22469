use super::ProgramError;

/// Memory of one program that lives as long as it: buffers of a call, zero when it is allocated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workspace {
    regions: Vec<Region>,
    bytes: u64,
}

/// A part of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// What it holds, for people.
    pub name: String,
    /// Its first byte.
    pub offset: u32,
    /// Its length.
    pub bytes: u64,
}

impl Workspace {
    /// All regions, ascending.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The region that an offset begins.
    pub fn region(&self, offset: u32) -> Option<&Region> {
        self.regions.iter().find(|region| region.offset == offset)
    }

    /// Offset of the region of that name, which is made if there is none.
    pub(super) fn place(
        &mut self,
        name: impl Into<String>,
        bytes: u64,
    ) -> Result<u32, ProgramError> {
        let name = name.into();
        if let Some(region) = self.regions.iter_mut().find(|region| region.name == name) {
            if bytes > region.bytes {
                return Err(ProgramError::Invalid(format!(
                    "`{name}` needs {bytes} bytes and has {}",
                    region.bytes
                )));
            }
            return Ok(region.offset);
        }
        let offset = self.bytes;
        let end = offset + bytes.next_multiple_of(128);
        if end > u64::from(u32::MAX) {
            return Err(ProgramError::TooLarge {
                what: "buffers",
                bytes: end,
            });
        }
        self.bytes = end;
        self.regions.push(Region {
            name,
            offset: offset as u32,
            bytes,
        });
        Ok(offset as u32)
    }
}
