use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use stheno::model::RandomFormat;

/// Generates text with a language model, on this machine.
///
/// Standard output carries the text only; progress, timing and messages go to standard error. Exit codes: 0, 1 for a
/// fault at run time, 2 for a mistake on the command line, 130 after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "generate", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub generate: GenerateArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says what this machine offers, what was found and what will be used.
    Doctor,
    /// Measures speed: a prompt, an answer, and steps of several rows; with --questions, what a draft gains.
    Bench(Box<BenchArgs>),
    /// Prints the perplexity of a text.
    Perplexity(PerplexityArgs),
    /// Prints the plan of a model: every op of every segment; with --device cuda or virtual, the device program too.
    Plan(PlanArgs),
}

/// Which model, and how it runs.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// Hugging Face directory, GGUF file, or hub id (organisation/name)
    #[arg(short, long, env = "STHENO_MODEL", value_name = "MODEL")]
    pub model: Option<String>,
    /// A model of known sizes with random weights, instead of -m, on a device only: tiny, smollm2-135m, llama-3.2-1b,
    /// llama-3.1-8b, qwen3-8b or llama-3.1-70b-slice
    #[arg(long, value_name = "NAME")]
    pub random: Option<String>,
    /// Layers of a random model [default: all]
    #[arg(long, value_name = "N", requires = "random")]
    pub layers: Option<u32>,
    /// Format of a random model's matrices: bf16, f16, fp8, int8 or int4 [default: bf16]
    #[arg(long, value_name = "FORMAT", requires = "random")]
    pub format: Option<RandomFormat>,
    /// Positions of the context [default: what the model was trained for]
    #[arg(short, long, value_name = "N")]
    pub ctx_size: Option<usize>,
    /// Threads [default: as many as this process may run at a time]
    #[arg(short, long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where to run: auto, host, cuda, cuda:N or virtual (a GPU imitated on the CPU)
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Rows of one step that a device program is laid out for: more verify larger trees at a time [default: 8, or 32 with a draft]
    #[arg(long, value_name = "N", value_parser = max_rows)]
    pub max_rows: Option<u32>,
    /// Type of activations; auto is q8 for a quantized checkpoint, f32 for others
    #[arg(long, value_enum, default_value_t = ActivationArg::Auto)]
    pub activation_dtype: ActivationArg,
    /// Type of the KV cache; auto is f32 with f32 activations, bf16 with bf16, f16 with q8
    #[arg(long, value_enum, default_value_t = KvArg::Auto)]
    pub kv_dtype: KvArg,
    /// Says on standard error what is done and how long it took; twice for every step (RUST_LOG chooses more finely)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What device programs are laid out for.
fn max_rows(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(rows @ (8 | 16 | 32 | 64)) => Ok(rows),
        _ => Err("there are 8, 16, 32 and 64".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ActivationArg {
    Auto,
    F32,
    Bf16,
    Mixed,
    Q8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DraftDtypeArg {
    Auto,
    Stored,
    Q8,
    Q4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KvArg {
    Auto,
    F32,
    F16,
    Bf16,
}

/// What `generate` without a subcommand takes.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub prompt: PromptArgs,
    #[command(flatten)]
    pub draft: DraftArgs,
    #[command(flatten)]
    pub speculation: SpeculationArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What to answer.
#[derive(Debug, Args)]
pub struct PromptArgs {
    /// Prompt; goes through the model's chat template where it has one
    #[arg(short, long, group = "input")]
    pub prompt: Option<String>,
    /// Reads the prompt from a file; `-` is standard input
    #[arg(short, long, value_name = "FILE", group = "input")]
    pub file: Option<PathBuf>,
    /// Prompt as token ids; then the checkpoint needs no tokenizer
    #[arg(long, value_name = "ID,...", value_delimiter = ',', group = "input")]
    pub tokens: Option<Vec<u32>>,
    /// Feeds the text as it is, without chat template
    #[arg(long)]
    pub raw: bool,
    /// Talks in turns, read from standard input line by line; -p is then the first turn
    #[arg(long, conflicts_with_all = ["raw", "tokens"])]
    pub chat: bool,
    /// System message
    #[arg(long, visible_alias = "sys", value_name = "TEXT", conflicts_with_all = ["raw", "tokens"])]
    pub system: Option<String>,
    /// Most tokens to generate; -1 goes on until the context is full
    #[arg(
        short,
        long,
        visible_alias = "max-tokens",
        value_name = "N",
        default_value_t = 256,
        allow_negative_numbers = true
    )]
    pub n_predict: i64,
    /// Text that ends the answer and is not part of it; may be given several times
    #[arg(
        short = 'r',
        long,
        visible_alias = "reverse-prompt",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    pub stop: Vec<String>,
    /// Goes on past the tokens that end an answer
    #[arg(long)]
    pub ignore_eos: bool,
}

/// What guesses ahead.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Speculation")]
pub struct DraftArgs {
    /// What guesses ahead: a small model, Medusa heads or an EAGLE head (directory, GGUF file or hub id), or `ngram`, which
    /// looks in prompt and answer for what followed before; `ngram+DRAFT` is both, whichever promises more
    #[arg(long, visible_alias = "model-draft", value_name = "DRAFT")]
    pub draft: Option<String>,
    /// What the draft's dense weights are rounded to as they are loaded: stored (nothing), q8, q4, or auto (q8 for a quantized model,
    /// otherwise nothing)
    #[arg(long, value_name = "DTYPE")]
    pub draft_dtype: Option<DraftDtypeArg>,
    /// Base of the rotation of an EAGLE head, where its configuration is wrong
    #[arg(long, value_name = "F")]
    pub draft_rope_theta: Option<f64>,
    /// Layers of the model whose outputs an EAGLE-3 head is fed, counted from 0
    #[arg(long, value_name = "I,J,K", value_delimiter = ',')]
    pub draft_aux_layers: Option<Vec<u32>>,
}

/// How far and how wide to guess, and which guesses count as right. Without a shape, both are chosen every round from
/// what steps cost here and how right the draft has been.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Speculation")]
pub struct SpeculationArgs {
    /// Fixes the tree of guesses: levels below the root [default: 5]
    #[arg(long, value_name = "N")]
    pub speculative_num_steps: Option<u32>,
    /// Fixes the tree of guesses: candidates of a node [default: 8 with EAGLE and Medusa heads, else 1]
    #[arg(long, value_name = "K")]
    pub speculative_eagle_topk: Option<u32>,
    /// Fixes the tree of guesses: nodes to verify, the root counted [default: all of a chain, else at most 64]
    #[arg(long, value_name = "N")]
    pub speculative_num_draft_tokens: Option<u32>,
    /// Static tree for Medusa heads: the name of one that comes along, or a file with a list of lists of ranks
    #[arg(long, value_name = "NAME|FILE.json")]
    pub medusa_choices: Option<String>,
    /// Which guesses count as right; typical is not lossless [default: exact]
    #[arg(long, value_enum, value_name = "RULE")]
    pub acceptance: Option<AcceptanceArg>,
    /// With typical acceptance: a token more likely than this is accepted always [default: 0.09]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub posterior_threshold: Option<f32>,
    /// With typical acceptance: how far below exp(-entropy) a token may be [default: 0.3]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub posterior_alpha: Option<f32>,
    /// Loads the draft and does not ask it
    #[arg(long)]
    pub no_speculation: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AcceptanceArg {
    /// The tokens of plain decoding
    Exact,
    /// Other tokens of the same distribution
    Rejection,
    /// Tokens that the model finds likely enough
    Typical,
}

/// How tokens are chosen. What is not given comes from the model's generation_config.json if that asks for
/// sampling, and else is: --temp 0.8 --top-k 40 --top-p 0.95 --min-p 0.05, no penalties.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Seed; the same one gives the same text [default: another one each time, printed at the end]
    #[arg(short, long)]
    pub seed: Option<u64>,
    /// Temperature; 0 takes the most probable token always
    #[arg(long, visible_alias = "temperature", allow_negative_numbers = true)]
    pub temp: Option<f32>,
    /// Keeps the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Keeps the fewest tokens that have this probability together; 1 keeps all
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Keeps tokens at least this many times as probable as the best one; 0 keeps all
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Divides the score of tokens that occurred; 1 is none
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub repeat_penalty: Option<f32>,
    /// Tokens that the penalties look back at; -1 is all of them
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        allow_negative_numbers = true
    )]
    pub repeat_last_n: i64,
    /// Subtracted from the score of tokens that occurred
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub presence_penalty: f32,
    /// Subtracted from the score of a token for each time it occurred
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub frequency_penalty: f32,
    /// Adds to the score of a token, as in 15043+1.5 or 15043-inf; may be given several times
    #[arg(long, value_name = "ID±X", allow_hyphen_values = true)]
    pub logit_bias: Vec<String>,
}

/// What comes out.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Prints one JSON object on the last line
    #[arg(long, conflicts_with = "chat")]
    pub json: bool,
    /// Reports the log-probability of each token and of the N most probable ones, in the JSON object
    #[arg(long, value_name = "N", requires = "json")]
    pub logprobs: Option<usize>,
    /// Writes logits [positions, vocab] of the prompt in f32 as tensor `logits`
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "chat")]
    pub dump_logits: Option<PathBuf>,
    /// Prints the answer when it is complete instead of as it comes
    #[arg(long)]
    pub no_stream: bool,
    /// Colours the tokens that a draft had guessed and those that it had not, and prints statistics after the answer
    #[arg(long)]
    pub show_speculation: bool,
    /// Whether there are colours; auto is on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
    /// Writes a line of JSON for every round of speculation
    #[arg(long, value_name = "FILE.jsonl")]
    pub trace_rounds: Option<PathBuf>,
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// Where the time goes on a device.
#[derive(Debug, Clone, Args)]
pub struct ProfileArgs {
    /// Writes when the device was in which phase, for Perfetto (ui.perfetto.dev), and a table to standard error; -v has a line
    /// for each layer
    #[arg(long, value_name = "FILE.json")]
    pub profile: Option<PathBuf>,
    /// Calls of the device that are recorded, the first ones
    #[arg(long, value_name = "N", default_value_t = 64, requires = "profile", value_parser = clap::value_parser!(u32).range(1..))]
    pub profile_calls: u32,
}

#[derive(Debug, Args)]
#[command(mut_group("SamplingArgs", |group| group.requires("questions")))]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 512)]
    pub prompt_len: usize,
    /// Tokens to generate
    #[arg(long, default_value_t = 128)]
    pub gen_len: usize,
    /// Rows of the steps to measure
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    pub rows: Vec<usize>,
    /// Measurements of each
    #[arg(long, default_value_t = 3)]
    pub iterations: usize,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub profile: ProfileArgs,
    #[command(flatten)]
    pub questions: QuestionsArgs,
    #[command(flatten)]
    pub draft: DraftArgs,
    #[command(flatten)]
    pub speculation: SpeculationArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// Answers questions with and without the draft, by turns.
#[derive(Debug, Args)]
#[command(next_help_heading = "Questions")]
pub struct QuestionsArgs {
    /// Measures speculation against plain decoding on a question file in Spec-Bench's format; greedy without --temp
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["prompt_len", "gen_len", "rows", "iterations"])]
    pub questions: Option<PathBuf>,
    /// Most tokens of an answer
    #[arg(
        short,
        long,
        visible_alias = "max-tokens",
        value_name = "N",
        default_value_t = 128,
        requires = "questions"
    )]
    pub n_predict: usize,
    /// Only questions of these categories
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        requires = "questions"
    )]
    pub categories: Vec<String>,
    /// Only so many questions of a category
    #[arg(long, value_name = "N", requires = "questions")]
    pub num_questions: Option<usize>,
    /// Draws speed-up and accept_len of each category
    #[arg(long, value_name = "FILE.svg", requires = "questions")]
    pub plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct PerplexityArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The text; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Tokens of each part that is read from an empty context [default: the context, at most 1024]
    #[arg(long, value_name = "N")]
    pub window: Option<usize>,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub draft: DraftArgs,
    /// Prints the plan as JSON
    #[arg(long)]
    pub json: bool,
    /// Writes the device program's CUDA source, with every header that it includes, to this directory; with --device cuda or virtual
    #[arg(long, value_name = "DIR")]
    pub emit: Option<PathBuf>,
}
