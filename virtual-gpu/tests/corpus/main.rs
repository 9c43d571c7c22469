//! A corpus of CUDA kernels with their inputs and CPU references. `kernels/` holds the sources, a case file for each
//! and the registers that NVRTC gives them; `table()` is the same corpus with its expected results.

mod attention;
mod case;
#[path = "../cuda/mod.rs"]
mod cuda;
mod data;
mod expect;
mod json;
mod matmul;
mod moves;
mod on_device;
mod order;
mod random;
mod reduce;
mod rings;
mod run;
#[path = "../strangers/mod.rs"]
mod strangers;

use std::collections::BTreeSet;

use case::{Arg, Case, Scalar, Size, kernels};
use data::Dtype;
use expect::Expect;

/// Every kernel of the corpus at one size.
fn table(size: Size) -> Vec<Case> {
    let cases: &[fn(Size) -> Case] = &[
        attention::rope,
        attention::tree_attention,
        matmul::bit_planes,
        matmul::gemm_bf16,
        matmul::gemm_f16,
        matmul::gemm_f32,
        matmul::gemm_fp8,
        matmul::gemm_int8,
        matmul::gemm_tf32,
        matmul::gemv_bf16,
        matmul::specialised_gemm,
        matmul::w4a16,
        moves::checked_copy,
        moves::conv1d,
        moves::gather,
        moves::quantize_rows,
        moves::sparse_delta,
        moves::transpose,
        order::argmax_atomic,
        order::bitonic_sort,
        order::histogram,
        order::radix_sort,
        order::scan_block,
        order::scan_lookback,
        order::top_k,
        order::top_p,
        random::gumbel_argmax,
        random::philox_fill,
        reduce::last_block_reduce,
        reduce::layer_norm,
        reduce::rms_norm,
        reduce::softmax_online,
        reduce::sum_reduce,
        rings::bulk_ring,
        rings::named_ring,
        rings::persistent_phases,
    ];
    cases.iter().map(|case| case(size)).collect()
}

/// The initial contents of a case's buffers, as after a kernel that does nothing.
fn untouched(case: &Case) -> Vec<Vec<u8>> {
    let buffers = case.buffers().into_iter();
    buffers
        .map(|(bytes, contents)| contents.unwrap_or(vec![0; bytes]))
        .collect()
}

/// Buffers as the references want them.
fn answers(case: &Case) -> Vec<Vec<u8>> {
    let buffers = case.args.iter().filter_map(|arg| match arg {
        Arg::Buffer { dtype, expect, .. } => Some(expect.answer(*dtype)),
        Arg::Scalar(_) => None,
    });
    buffers
        .zip(untouched(case))
        .map(|(answer, initial)| answer.unwrap_or(initial))
        .collect()
}

#[test]
fn a_check_accepts_the_answer_and_nothing_else() {
    for size in Size::ALL {
        for case in table(size) {
            for arch in case.target.virtual_archs() {
                let answered = case.run(arch, |case, _, _| Ok(answers(case)));
                assert_eq!(answered, Ok(()), "{}", case.kernel);
                let idle = case.run(arch, |case, _, _| Ok(untouched(case)));
                assert!(
                    idle.is_err(),
                    "{}: a kernel that does nothing passes",
                    case.kernel
                );
            }
        }
    }
}

#[test]
fn a_check_sees_one_wrong_element() {
    for case in table(Size::Small) {
        let buffers = case.args.iter().filter_map(|arg| match arg {
            Arg::Buffer { dtype, expect, .. } => Some((*dtype, expect)),
            Arg::Scalar(_) => None,
        });
        for (i, (dtype, expect)) in buffers.enumerate() {
            let mut outputs = answers(&case);
            let last = outputs[i].len() - dtype.bytes();
            let wrong = match expect {
                Expect::Any => continue,
                Expect::Exact(bytes) => bytes[last..].iter().map(|byte| byte ^ 1).collect(),
                // Beyond the tolerance and the rounding of the element itself.
                Expect::Near(want) => {
                    let (number, tolerance) = want[want.len() - 1];
                    dtype.encode(number + 2.0 * tolerance + number.abs() / 64.0)
                }
            };
            outputs[i].splice(last.., wrong);
            assert!(case.check(&outputs).is_err(), "{}: buffer {i}", case.kernel);
        }
    }
}

#[test]
fn every_source_has_a_case_and_stands_alone() {
    let files = std::fs::read_dir(kernels())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let files: BTreeSet<String> = files.map(|name| name.into_string().unwrap()).collect();
    let names: BTreeSet<&str> = table(Size::Small).iter().map(|case| case.kernel).collect();
    let expected = names
        .iter()
        .flat_map(|name| [format!("{name}.cu"), format!("{name}.json")]);
    assert_eq!(files, expected.collect());
    for case in table(Size::Small) {
        let source = std::fs::read_to_string(case.source()).unwrap();
        assert!(!source.contains("#include"), "{}", case.kernel);
        assert!(
            source.contains(&format!("\n{}(", case.kernel)),
            "{}",
            case.kernel
        );
    }
}

/// With `CORPUS_BLESS` set the case files are written instead.
#[test]
fn case_files_are_those_of_the_table() {
    for case in table(Size::Full) {
        let path = kernels().join(format!("{}.json", case.kernel));
        let text = json::case_file(&case);
        if std::env::var_os("CORPUS_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            text,
            "{}",
            path.display()
        );
    }
}

#[test]
fn recorded_resources_cover_every_architecture_without_spills() {
    let table_text = std::fs::read_to_string(kernels().join("../resources.txt")).unwrap();
    let rows = table_text.lines().filter(|line| !line.starts_with('#'));
    let recorded: BTreeSet<(String, String)> = rows
        .map(|row| {
            let [kernel, arch, registers, spills, shared] =
                row.split_whitespace().collect::<Vec<_>>()[..]
            else {
                panic!("a row has five columns: {row}");
            };
            assert!(
                (1..=255).contains(&registers.parse::<u32>().unwrap()),
                "{row}"
            );
            assert_eq!(spills, "0", "{row}");
            assert!(shared.parse::<u32>().unwrap() <= 48 * 1024, "{row}");
            (kernel.to_owned(), arch.to_owned())
        })
        .collect();
    let cases = table(Size::Small);
    let wanted = cases.iter().flat_map(|case| {
        let archs = case.target.real_archs().iter();
        archs.map(|arch| (case.kernel.to_owned(), (*arch).to_owned()))
    });
    assert_eq!(recorded, wanted.collect());
}

#[test]
fn parameters_are_naturally_aligned() {
    let mut case = Case::new("none", [1, 1], [32, 1]);
    case.scalar(Scalar::U32(1));
    case.output(Dtype::U8, 4, Expect::Any);
    case.scalar(Scalar::I32(-1));
    case.scalar(Scalar::U64(2));
    let params = case.params(&[0x0706_0504_0302_0100]);
    let words: Vec<u64> = params
        .chunks(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
        .collect();
    assert_eq!(words, [1, 0x0706_0504_0302_0100, 0xFFFF_FFFF, 2]);
}
