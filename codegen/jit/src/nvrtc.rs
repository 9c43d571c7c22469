//! The compiler.

use std::ffi::CString;
use std::fmt;
use std::path::Path;

use crate::diagnostic;
use crate::error::{CallError, CompileError, HeadersError, NvrtcError, Rejection};
use crate::find::{self, FindOptions};
use crate::library::{Library, Program, Verdict};
use crate::request::{Compiled, REPORT, Request};
use crate::resources;

/// A loaded NVRTC. Cheap to clone. Several threads may compile at once; several versions may be loaded side by side.
#[derive(Clone)]
pub struct Nvrtc {
    nvrtc: Library,
}

impl fmt::Debug for Nvrtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvrtc")
            .field("path", &self.path())
            .field("version", &self.version())
            .finish()
    }
}

impl Nvrtc {
    /// Finds and loads NVRTC: the file or directory that the caller or STHENO_NVRTC names, else the highest version
    /// that `options.max_major` allows.
    ///
    /// # Errors
    ///
    /// [`NvrtcError`] says what was tried and what to run where there is none.
    pub fn find(options: &FindOptions) -> Result<Nvrtc, NvrtcError> {
        Ok(Nvrtc {
            nvrtc: find::find(options)?,
        })
    }

    /// (major, minor).
    pub fn version(&self) -> (u32, u32) {
        self.nvrtc.version()
    }

    /// The file, or the bare name where the system's loader found it.
    pub fn path(&self) -> &Path {
        self.nvrtc.path()
    }

    /// The architectures that this version compiles for, ascending: 80 is compute_80 and sm_80.
    pub fn supported_architectures(&self) -> &[u32] {
        self.nvrtc.architectures()
    }

    /// CUDA's own headers (`cuda_fp16.h`, `cooperative_groups.h`, ...), which versions from 13.3 on carry inside:
    /// unpacks them into a directory of this version below `parent`, unless they are there, and gives the options that
    /// let a source include them. `None` if this version brings none. Kernels of this project include nothing; this is
    /// for those of others.
    ///
    /// # Errors
    ///
    /// The directory cannot be made, or NVRTC cannot write to it.
    pub fn headers(&self, parent: &Path) -> Result<Option<Vec<String>>, HeadersError> {
        let (major, minor) = self.version();
        let directory = parent.join(format!("{major}.{minor}"));
        let failed = |cause: std::io::Error| HeadersError::Directory {
            directory: directory.clone(),
            cause,
        };
        if !directory.join("cuda_fp16.h").is_file() {
            std::fs::create_dir_all(&directory).map_err(failed)?;
            let name = CString::new(directory.as_os_str().as_encoded_bytes());
            let name = name.map_err(|error| failed(error.into()))?;
            if !self.nvrtc.install_headers(&name)? {
                return Ok(None);
            }
        }
        let option = |path: &Path| format!("--include-path={}", path.display());
        Ok(Some(vec![
            option(&directory),
            option(&directory.join("cccl")),
        ]))
    }

    /// Compiles. The output is a function of the request and of the version of NVRTC.
    ///
    /// # Errors
    ///
    /// [`CompileError::Rejected`] prints the log with the source lines around each error; the other variants are an
    /// unknown target, a text with a NUL byte, and failures of NVRTC itself.
    pub fn compile(&self, request: &Request) -> Result<Compiled, CompileError> {
        if !request
            .target
            .number()
            .is_some_and(|number| self.supported_architectures().contains(&number))
        {
            return Err(CompileError::Architecture {
                target: request.target.to_string(),
                version: self.version(),
                known: self.supported_architectures().to_vec(),
            });
        }
        let texts = Texts::of(request)?;
        self.run(request, &texts)
            .map_err(|cause| CompileError::Call {
                name: request.name.clone(),
                path: self.path().to_path_buf(),
                cause,
            })?
            .map_err(|rejection| CompileError::Rejected(Box::new(rejection)))
    }

    fn run(
        &self,
        request: &Request,
        texts: &Texts,
    ) -> Result<Result<Compiled, Rejection>, CallError> {
        let program = self.start(texts)?;
        if program.compile(&texts.options)? == Verdict::Rejected {
            return self.reject(request, texts, &program).map(Err);
        }
        // The time that ptxas took is all that differs between two compilations of one request.
        let log = program.log()?;
        let log = log
            .lines()
            .filter(|line| !line.contains(": Compile time = "))
            .collect::<Vec<_>>()
            .join("\n");
        Ok(Ok(Compiled {
            ptx: program.ptx()?,
            cubin: program.cubin()?,
            resources: resources::parse(&log),
            log,
            lowered_names: program.lowered_names(&texts.expressions)?,
        }))
    }

    fn start(&self, texts: &Texts) -> Result<Program<'_>, CallError> {
        let program = self
            .nvrtc
            .program(&texts.source, &texts.name, &texts.headers)?;
        for (_, expression) in &texts.expressions {
            program.add_name(expression)?;
        }
        Ok(program)
    }

    fn reject(
        &self,
        request: &Request,
        texts: &Texts,
        program: &Program,
    ) -> Result<Rejection, CallError> {
        let mut log = program.log()?;
        if !log.lines().any(diagnostic::is_error) {
            // With its report on, ptxas (13.5) keeps some errors to itself, "uses too much shared data" among them.
            let report = REPORT.as_bytes();
            let options = texts.options.iter().cloned();
            let quiet: Vec<CString> = options
                .filter(|option| option.as_bytes() != report)
                .collect();
            let again = self.start(texts)?;
            if again.compile(&quiet)? == Verdict::Rejected {
                log = again.log()?;
            }
        }
        // Where ptxas is the one that objects, the PTX whose lines it names is there.
        let ptx = program.ptx()?;
        let headers = request.headers.iter();
        let named: Vec<(&str, &str)> = [(request.name.as_str(), request.source.as_str())]
            .into_iter()
            .chain(headers.map(|(name, text)| (name.as_str(), text.as_str())))
            .chain(ptx.iter().map(|ptx| (diagnostic::PTX, ptx.as_str())))
            .collect();
        Ok(Rejection {
            name: request.name.clone(),
            target: request.target.to_string(),
            version: self.version(),
            excerpts: diagnostic::excerpts(&log, &named),
            log,
        })
    }
}

/// The texts of a request as C strings.
struct Texts {
    name: CString,
    source: CString,
    headers: Vec<(CString, CString)>,
    options: Vec<CString>,
    /// (as given, as C string).
    expressions: Vec<(String, CString)>,
}

impl Texts {
    fn of(request: &Request) -> Result<Texts, CompileError> {
        let text = |what: &str, text: &str| {
            CString::new(text).map_err(|_| CompileError::Nul {
                name: request.name.replace('\0', "?"),
                what: what.to_owned(),
            })
        };
        Ok(Texts {
            name: text("the name", &request.name)?,
            source: text("the text", &request.source)?,
            headers: request
                .headers
                .iter()
                .map(|(name, header)| {
                    Ok((
                        text("the name of a header", name)?,
                        text("a header", header)?,
                    ))
                })
                .collect::<Result<_, CompileError>>()?,
            options: request
                .all_options()
                .iter()
                .map(|option| text("an option", option))
                .collect::<Result<_, _>>()?,
            expressions: request
                .name_expressions
                .iter()
                .map(|expression| Ok((expression.clone(), text("a name expression", expression)?)))
                .collect::<Result<_, CompileError>>()?,
        })
    }
}
