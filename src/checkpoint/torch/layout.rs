/// How much of a storage a tensor takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Elements of the tensor.
    pub elements: usize,
    /// Elements of the storage from its first to its last one.
    pub span: usize,
}

/// The extent of a tensor; `None` if it cannot be addressed.
pub(super) fn extent(shape: &[usize], strides: &[usize]) -> Option<Extent> {
    let elements = shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
    if shape.contains(&0) {
        let (elements, span) = (0, 0);
        return Some(Extent { elements, span });
    }
    let mut span = 1_usize;
    for (dimension, stride) in shape.iter().zip(strides) {
        span = span.checked_add((dimension - 1).checked_mul(*stride)?)?;
    }
    let elements = elements?;
    Some(Extent { elements, span })
}

/// Whether the elements lie one after the other, the last dimension fastest. Strides of dimensions of one element say
/// nothing.
pub(super) fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1_usize;
    for (dimension, stride) in shape.iter().zip(strides).rev() {
        if *dimension != 1 && *stride != expected {
            return shape.contains(&0);
        }
        expected = expected.saturating_mul(*dimension);
    }
    true
}

/// A row-major copy of elements of `size` bytes; `source` begins with the first one and holds the span of
/// [`extent`].
pub(super) fn row_major(source: &[u8], shape: &[usize], strides: &[usize], size: usize) -> Vec<u8> {
    // Strides of dimensions of one element may be any number.
    let dimensions = shape.iter().copied().zip(strides.iter().copied());
    let dimensions: Vec<(usize, usize)> = dimensions.filter(|(d, _)| *d != 1).collect();
    let elements = shape.iter().product::<usize>();
    let mut copy = Vec::with_capacity(elements * size);
    let mut place = vec![0; dimensions.len()];
    let mut at = 0;
    for _ in 0..elements {
        copy.extend_from_slice(&source[at * size..][..size]);
        for (place, (dimension, stride)) in place.iter_mut().zip(&dimensions).rev() {
            *place += 1;
            if *place < *dimension {
                at += stride;
                break;
            }
            at -= stride * (dimension - 1);
            *place = 0;
        }
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_followed() {
        let source: Vec<u8> = (0..24).collect();
        // [2, 3, 4] with the axes turned round.
        let (shape, strides) = ([4, 3, 2], [1, 4, 12]);
        let copy = row_major(&source, &shape, &strides, 1);
        let expected = (0..24).map(|i| (i / 6 + i % 6 / 2 * 4 + i % 2 * 12) as u8);
        assert_eq!(copy, expected.collect::<Vec<_>>());
        let pairs = row_major(&source, &[3, 1, 2], &[2, usize::MAX, 6], 2);
        assert_eq!(pairs, [0, 1, 12, 13, 4, 5, 16, 17, 8, 9, 20, 21]);
        assert_eq!(row_major(&source, &[], &[], 4), [0, 1, 2, 3]);
    }

    #[test]
    fn extents_are_those_of_the_strides() {
        let extent = |shape: &[usize], strides: &[usize]| {
            extent(shape, strides).map(|extent| (extent.elements, extent.span))
        };
        assert_eq!(extent(&[2, 3], &[3, 1]), Some((6, 6)));
        assert_eq!(extent(&[3, 2], &[1, 10]), Some((6, 13)));
        assert_eq!(extent(&[], &[]), Some((1, 1)));
        assert_eq!(extent(&[0, usize::MAX], &[1, usize::MAX]), Some((0, 0)));
        assert_eq!(extent(&[usize::MAX, 2], &[0, 0]), None);
        assert_eq!(extent(&[3], &[usize::MAX]), None);
    }

    #[test]
    fn row_major_is_told_from_other_orders() {
        for (shape, strides) in [
            (&[2, 3][..], &[3, 1][..]),
            (&[1, 3], &[9, 1]),
            (&[2, 1, 3], &[3, 7, 1]),
            (&[0, 3], &[5, 5]),
            (&[], &[]),
        ] {
            assert!(is_row_major(shape, strides), "{shape:?} {strides:?}");
        }
        for (shape, strides) in [(&[2, 3][..], &[1, 2][..]), (&[2, 3], &[4, 1]), (&[2], &[0])] {
            assert!(!is_row_major(shape, strides), "{shape:?} {strides:?}");
        }
    }
}
