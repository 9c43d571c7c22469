use crate::cases::BenchOp;
use crate::failure::print;
use anyhow::Result;
use stheno::model::{NamedModel, RandomFormat};

/// `kernel-bench list`.
pub fn run() -> Result<()> {
    let mut text = String::from("ops\n");
    for op in BenchOp::ALL {
        text += &format!("  {op:<20} {}\n", op.description());
    }
    text += "shapes\n";
    for model in NamedModel::ALL {
        text += &format!("  {:<20} {}\n", model.name, model.description);
    }
    text += &format!("  {:<20} one matrix of N outputs and K inputs\n", "NxK");
    text += "formats\n";
    for format in RandomFormat::ALL {
        let scales = match format {
            RandomFormat::Bf16 | RandomFormat::F16 => "no scales",
            _ => "a scale per 128 elements",
        };
        text += &format!("  {format:<20} {scales}\n");
    }
    print(&text)
}
