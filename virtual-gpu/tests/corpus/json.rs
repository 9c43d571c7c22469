//! Case files: the cases of this corpus as the command line reads them.

use serde_json::{Value, json};

use crate::case::{Arg, Case, Role, Scalar};
use crate::data::Init;

/// The case file of a case, for the first of its architectures.
pub fn case_file(case: &Case) -> String {
    let file = json!({
        "kernel": case.kernel,
        "arch": case.target.virtual_archs()[0],
        "grid": case.grid,
        "block": case.block,
        "dynamic_shared": case.dynamic_shared,
        "cooperative": case.cooperative,
        "args": case.args.iter().map(argument).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&file).expect("a tree of plain values");
    text + "\n"
}

fn argument(arg: &Arg) -> Value {
    match *arg {
        Arg::Scalar(Scalar::U32(value)) => json!({"scalar": "u32", "value": value}),
        Arg::Scalar(Scalar::I32(value)) => json!({"scalar": "i32", "value": value}),
        Arg::Scalar(Scalar::U64(value)) => json!({"scalar": "u64", "value": value}),
        Arg::Scalar(Scalar::F32(value)) => {
            // The shortest decimal that gives the f32 back.
            let decimal: f64 = value.to_string().parse().expect("a number's own text");
            json!({"scalar": "f32", "value": decimal})
        }
        Arg::Buffer {
            dtype,
            elements,
            init,
            role,
            ..
        } => {
            let (init, range) = match init {
                Init::Random => ("random", None),
                Init::Range(lo, hi) => ("random", Some((lo, hi))),
                Init::Zeros => ("zeros", None),
                Init::Iota => ("iota", None),
                Init::Uninit => ("uninit", None),
            };
            let role = match role {
                Role::In => "in",
                Role::Out => "out",
                Role::InOut => "inout",
            };
            let mut buffer =
                json!({"buffer": dtype.name(), "elements": elements, "init": init, "role": role});
            if let Some((lo, hi)) = range {
                buffer["lo"] = lo.into();
                buffer["hi"] = hi.into();
            }
            buffer
        }
    }
}
