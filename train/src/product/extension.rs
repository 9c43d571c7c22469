//! The product of rounded factors as an operation of Burn, with its gradient.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex, FloatDType, backend_extension};

/// A backend that multiplies what it has rounded to bf16, and sums in f32.
#[backend_extension(Autodiff, Flex)]
pub trait RoundedProduct: Backend {
    /// `a b` for `a` `[.., m, k]` and `b` `[.., k, n]`, f32.
    fn rounded_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl RoundedProduct for Flex {
    fn rounded_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if let Some(product) = super::amx::product(&a, &b) {
            return product;
        }
        without_tiles(a, b)
    }
}

/// The same on processors without AMX.
pub(super) fn without_tiles(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let rounded = |x| {
        let x = Flex::float_cast(x, FloatDType::BF16);
        Flex::float_cast(x, FloatDType::F32)
    };
    Flex::float_matmul(rounded(a), rounded(b))
}

/// Whether this process may use the processor's tiles.
pub(super) fn has_amx() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return super::amx::is_there();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}

impl<B: RoundedProduct, C: CheckpointStrategy> RoundedProduct for Autodiff<B, C> {
    fn rounded_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Product;

        impl<B: RoundedProduct> Backward<B, 2> for Product {
            /// The factors, where the other's gradient is asked for.
            type State = [Option<NodeId>; 2];

            fn backward(
                self,
                ops: Ops<Self::State, 2>,
                gradients: &mut Gradients,
                checkpointer: &mut Checkpointer,
            ) {
                let [a, b] = ops.state;
                let mut factor = |node: Option<NodeId>| {
                    node.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node))
                };
                let (a, b) = (factor(a), factor(b));
                let known = "kept where this gradient is asked for";
                binary::<B, _, _>(
                    ops.parents,
                    ops.node,
                    gradients,
                    |gradient| B::rounded_product(gradient, B::float_transpose(b.expect(known))),
                    |gradient| B::rounded_product(B::float_transpose(a.expect(known)), gradient),
                );
            }
        }

        let nodes = [a.node(), b.node()];
        match Product.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let of_b = a.is_tracked().then(|| prepared.checkpoint(&b));
                let of_a = b.is_tracked().then(|| prepared.checkpoint(&a));
                let product = B::rounded_product(a.into_primitive(), b.into_primitive());
                prepared.finish([of_a, of_b], product)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::rounded_product(a.into_primitive(), b.into_primitive()))
            }
        }
    }
}
