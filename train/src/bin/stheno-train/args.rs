use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use stheno_train::data::Temperatures;

/// Trains drafts for a target: EAGLE-3 layers and Medusa heads.
///
/// The steps of a recipe, each of which goes on where it was stopped: resample lets the target answer prompts, features
/// stores its hidden states, eagle3 and medusa learn from them, eval measures what was learnt. Exit codes: 0, 1 for a
/// fault at run time, 2 for a mistake on the command line, 130 after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "stheno-train", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lets the target answer prompts, several conversations in each step.
    Resample(ResampleArgs),
    /// Stores the target's hidden states over its answers, once for many epochs.
    Features(FeaturesArgs),
    /// Measures how many tokens a round of a draft gives, by the engine itself.
    Eval(EvalArgs),
}

/// Which target, and how it runs.
#[derive(Debug, Clone, Args)]
pub struct TargetArgs {
    /// Hugging Face directory, GGUF file, or hub id (organisation/name)
    #[arg(short, long, env = "STHENO_MODEL", value_name = "MODEL")]
    pub model: String,
    /// Positions of the context [default: what the model was trained for]
    #[arg(short, long, value_name = "N")]
    pub ctx_size: Option<usize>,
    /// Threads [default: as many as this process may run at a time]
    #[arg(short, long, value_name = "N")]
    pub threads: Option<usize>,
}

#[derive(Debug, Args)]
pub struct ResampleArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Prompts, one JSON object a line: prompt, turns, messages or conversations
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// Directory for the answers
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Most tokens of an answer
    #[arg(
        short = 'n',
        long,
        visible_alias = "max-tokens",
        value_name = "N",
        default_value_t = 512
    )]
    pub n_predict: usize,
    /// Turns with a longer prompt are left out, in tokens of the whole conversation
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub max_prompt_tokens: usize,
    /// Conversations to answer [default: all]
    #[arg(long, value_name = "N")]
    pub num_prompts: Option<usize>,
    /// Conversations at a time; makes no difference to the answers
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub parallel: usize,
    /// Temperatures with weights; one is drawn for each conversation
    #[arg(long, value_name = "T:WEIGHT,...", default_value_t = Temperatures::default())]
    pub temperatures: Temperatures,
    /// Chooses order, temperatures and answers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Conversations of a shard
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub shard_size: usize,
}

#[derive(Debug, Args)]
pub struct FeaturesArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Directory of answers that resample has made
    #[arg(long, value_name = "DIR")]
    pub answers: PathBuf,
    /// Directory for the features
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Tokens of a conversation; what follows is cut off
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub max_len: usize,
    /// Three layers whose outputs are kept, counted from 0 [default: 1, L/2 - 1 and L - 4 of L]
    #[arg(
        long,
        value_name = "LAYER,LAYER,LAYER",
        value_delimiter = ',',
        num_args = 3
    )]
    pub aux_layers: Option<Vec<u32>>,
    /// Says how large the features would be, and ends
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// The draft: a directory
    #[arg(long, value_name = "DRAFT")]
    pub draft: String,
    /// Questions, in the shapes that --prompts of resample has; results are grouped by `category` or `source`
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Questions asked, in an order of the seed's [default: all]
    #[arg(long, value_name = "N")]
    pub num_questions: Option<usize>,
    /// Chooses the questions asked
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Most tokens of an answer
    #[arg(
        short = 'n',
        long,
        visible_alias = "max-tokens",
        value_name = "N",
        default_value_t = 128
    )]
    pub n_predict: usize,
    /// Turns with a longer prompt are left out, in tokens
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub max_prompt_tokens: usize,
    /// Temperature; 0 is greedy
    #[arg(
        long,
        visible_alias = "temperature",
        value_name = "T",
        default_value_t = 0.0
    )]
    pub temp: f32,
    /// Levels of a fixed tree
    #[arg(long, value_name = "N", requires_all = ["speculative_eagle_topk", "speculative_num_draft_tokens"])]
    pub speculative_num_steps: Option<u32>,
    /// Candidates of a node of a fixed tree
    #[arg(long, value_name = "K", requires = "speculative_num_steps")]
    pub speculative_eagle_topk: Option<u32>,
    /// Nodes of a fixed tree, the root among them
    #[arg(long, value_name = "N", requires = "speculative_num_steps")]
    pub speculative_num_draft_tokens: Option<u32>,
    /// A static tree for Medusa heads: a file, or the name of a known one
    #[arg(long, value_name = "TREE", conflicts_with = "speculative_num_steps")]
    pub medusa_choices: Option<String>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}
