use crate::args::TargetArgs;
use anyhow::Result;
use stheno::checkpoint::Checkpoint;
use stheno::engine::{Engine, EngineBuilder};
use stheno::model::ModelConfig;

/// The engine that the flags describe, on the host.
pub fn builder(args: &TargetArgs) -> Result<EngineBuilder> {
    let mut builder = Engine::builder().model(&args.model)?;
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
    if let Some(positions) = args.ctx_size {
        builder = builder.context_length(positions);
    }
    Ok(builder)
}

/// The target's files, and its sizes.
pub fn open(args: &TargetArgs) -> Result<(Checkpoint, ModelConfig)> {
    let checkpoint = Checkpoint::open_named(&args.model)?;
    let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path())?;
    Ok((checkpoint, config))
}

/// The last part of the target's path: what outputs are marked with.
pub fn name(args: &TargetArgs) -> String {
    let path = std::path::Path::new(&args.model);
    path.file_name().map_or_else(
        || args.model.clone(),
        |name| name.to_string_lossy().into_owned(),
    )
}
