use crate::args::TargetArgs;
use anyhow::Result;
use stheno::checkpoint::Checkpoint;
use stheno::engine::{Engine, EngineBuilder};
use stheno::model::ModelConfig;
use stheno_train::Target;

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

/// What a draft shares with the target.
pub fn read(args: &TargetArgs) -> Result<Target> {
    let checkpoint = Checkpoint::open_named(&args.model)?;
    let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path())?;
    Ok(Target::read(&checkpoint, &config)?)
}

/// The last part of the target's path: what outputs are marked with.
pub fn name(args: &TargetArgs) -> String {
    let path = std::path::Path::new(&args.model);
    path.file_name().map_or_else(
        || args.model.clone(),
        |name| name.to_string_lossy().into_owned(),
    )
}
