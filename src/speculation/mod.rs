//! Sampling. A stub until the branch `sampling` is merged.
#![allow(missing_docs)]
pub mod sampling {
    #[derive(Debug, Clone, PartialEq)]
    pub struct SamplingParams {
        pub temperature: f32,
        pub top_k: u32,
        pub top_p: f32,
        pub min_p: f32,
        pub repeat_penalty: f32,
        pub repeat_last_n: i32,
        pub presence_penalty: f32,
        pub frequency_penalty: f32,
        pub logit_bias: Vec<(u32, f32)>,
        pub seed: u64,
    }
    impl SamplingParams {
        pub fn greedy() -> Self {
            SamplingParams {
                temperature: 0.0,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                repeat_penalty: 1.0,
                repeat_last_n: 64,
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
                logit_bias: vec![],
                seed: 0,
            }
        }
    }

    #[derive(Debug, Default)]
    pub struct TokenMask(pub Vec<bool>);
    impl TokenMask {
        pub fn allow_all(&mut self, n: usize) {
            self.0 = vec![true; n];
        }
    }
    pub struct Choice {
        pub token: u32,
        pub logprob: f32,
        pub top: Vec<(u32, f32)>,
    }
    #[derive(Debug)]
    pub struct Sampler {
        _params: SamplingParams,
    }
    impl Sampler {
        pub fn new(params: SamplingParams, _vocab_size: usize) -> crate::Result<Self> {
            Ok(Sampler { _params: params })
        }
        pub fn sample(
            &mut self,
            logits: &[f32],
            _history: &[u32],
            _mask: Option<&TokenMask>,
            _top: Option<usize>,
        ) -> crate::Result<Choice> {
            let mut best = 0;
            for (i, x) in logits.iter().enumerate() {
                if *x > logits[best] {
                    best = i;
                }
            }
            Ok(Choice {
                token: best as u32,
                logprob: 0.0,
                top: vec![],
            })
        }
    }
}
