use clap::{Args, Parser, Subcommand, ValueEnum};
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
    /// Trains an EAGLE-3 layer.
    Eagle3(Eagle3Args),
    /// Trains Medusa heads, and finds their tree.
    Medusa(MedusaArgs),
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
    #[arg(long, value_name = "LAYER,LAYER,LAYER", value_delimiter = ',')]
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

/// What is learnt from, how, and where it goes.
#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Directory of features
    #[arg(long, value_name = "DIR", required_unless_present = "answers")]
    pub features: Option<PathBuf>,
    /// Directory of answers, without features: the target runs over them in every epoch
    #[arg(long, value_name = "DIR", conflicts_with = "features")]
    pub answers: Option<PathBuf>,
    /// Tokens of a conversation, with --answers; what follows is cut off
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub max_len: usize,
    /// Directory for the draft
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Directory for log, plot and checkpoints [default: that of the draft with .run after its name]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Goes on from the newest checkpoint
    #[arg(long)]
    pub resume: bool,
    /// Tokens that the draft can guess, the most frequent ones of the answers
    #[arg(long, value_name = "N", default_value_t = 8192)]
    pub draft_vocab_size: usize,
    /// Times that each example is seen
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub epochs: u64,
    /// Examples of an optimizer step; their gradients are accumulated
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub batch_size: usize,
    /// Examples computed side by side; makes no difference to the result
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub parallel: usize,
    /// What matrices are multiplied in: f32, or bf16 with sums in f32, which is faster on processors with AMX
    #[arg(long, value_enum, default_value_t = ComputeArg::F32)]
    pub compute_dtype: ComputeArg,
    /// Rounds matrices in training as they will be served: q8 or q4
    #[arg(long, value_enum)]
    pub rounding: Option<RoundingArg>,
    /// Largest learning rate
    #[arg(
        long,
        visible_alias = "lr",
        value_name = "RATE",
        default_value_t = 1e-4
    )]
    pub learning_rate: f64,
    /// Steps in which the rate rises
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub warmup_steps: u64,
    /// How the rate falls after that
    #[arg(long, value_enum, default_value_t = DecayArg::Cosine)]
    pub lr_decay: DecayArg,
    /// Share of the rate that is left at the end
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub lr_floor: f64,
    /// Decay of weights
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm
    #[arg(long, value_name = "NORM", default_value_t = 0.5)]
    pub max_grad_norm: f64,
    /// Optimizer steps, if the epochs have more
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// Stops after this time as Ctrl-C does
    #[arg(long, value_name = "SECONDS")]
    pub max_seconds: Option<f64>,
    /// Share of the examples that is kept for evaluation
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    pub held_out: f64,
    /// Steps between evaluations
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub evaluate_every: u64,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub checkpoint_every: u64,
    /// Chooses the order of examples and the first weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Type of the draft's tensors on disk
    #[arg(long, value_enum, default_value_t = DtypeArg::Bf16)]
    pub dtype: DtypeArg,
    /// The target's name for the draft's card [default: the file's]
    #[arg(long, value_name = "NAME")]
    pub base_model: Option<String>,
    /// What the answers come from, for the card
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "Answers of the target itself."
    )]
    pub data: String,
    /// Licence of the draft, for the card
    #[arg(long, value_name = "NAME")]
    pub license: Option<String>,
}

#[derive(Debug, Args)]
pub struct Eagle3Args {
    #[command(flatten)]
    pub train: TrainArgs,
    /// Steps of the training-time test: tokens ahead that the layer learns to guess on its own outputs
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub steps: usize,
    /// Weight of step i is this to the power of i
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    pub step_decay: f64,
    /// Share of positions that go past the first step, with as much more weight: less time for a noisier gradient
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub later_share: f64,
    /// Width of the layer's feed-forward [default: the target's]
    #[arg(long, value_name = "N")]
    pub intermediate_size: Option<usize>,
    /// KV heads of the layer [default: the target's]; what it knows of the last token goes through their values
    #[arg(long, value_name = "N")]
    pub num_key_value_heads: Option<usize>,
    /// Base of the rotation; it is written into the configuration
    #[arg(long, value_name = "BASE", default_value_t = 10_000.0)]
    pub rope_theta: f64,
    /// Starts the head at random, not as the target's
    #[arg(long)]
    pub random_head: bool,
}

#[derive(Debug, Args)]
pub struct MedusaArgs {
    #[command(flatten)]
    pub train: TrainArgs,
    /// Heads: tokens ahead after the next
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub heads: usize,
    /// Weight of head i is this to the power of i
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    pub head_decay: f64,
    /// Gives each head a vocabulary matrix of its own
    #[arg(long)]
    pub own_matrices: bool,
    /// Learns the target's distributions instead of its tokens
    #[arg(long)]
    pub soft_targets: bool,
    /// Nodes of the tree that is found on the held-out examples, the root among them
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub tree_nodes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DecayArg {
    Constant,
    Linear,
    Cosine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    Bf16,
    F16,
    F32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ComputeArg {
    F32,
    Bf16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoundingArg {
    Q8,
    Q4,
}
