use super::TILE_ROWS;

/// Which rows of a matrix stand in which rows of its tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowOrder {
    /// Row r of tile i is row 16 i + r.
    Plain,
    /// Heads whose elements (i, i + `pairs`) rotate against each other: both stand in one lane, in rows g and g + 8.
    /// Elements from 2 `pairs` on of a head follow in plain order.
    Rope {
        /// Rows of a head, a multiple of 16.
        head_dim: u32,
        /// Rotated pairs of a head, a multiple of 8, at most `head_dim / 2`.
        pairs: u32,
    },
    /// Row g of tile i is row 8 i + g of the gate; rows g + 8 are those of the up projection.
    Gate,
    /// Row g + 8 of tile i is row 8 i + g of the up projection; rows g are those of the gate.
    Up,
}

impl RowOrder {
    /// The order for heads that rotate, [`RowOrder::Plain`] if they cannot stand in pairs (a kernel then finds the
    /// partner elsewhere).
    pub fn rope(head_dim: u32, pairs: u32) -> RowOrder {
        let fits = head_dim.is_multiple_of(16) && pairs.is_multiple_of(8);
        if head_dim > 0 && fits && (1..=head_dim / 2).contains(&pairs) {
            RowOrder::Rope { head_dim, pairs }
        } else {
            RowOrder::Plain
        }
    }

    /// Tiles that n rows take.
    pub fn tiles(self, n: u32) -> u32 {
        match self {
            RowOrder::Plain | RowOrder::Rope { .. } => n.div_ceil(TILE_ROWS as u32),
            RowOrder::Gate | RowOrder::Up => n.div_ceil(8),
        }
    }

    /// The matrix row in row r (below 16) of a tile; may be at or beyond n in the last tile, which is padding. `None`:
    /// the tile's row belongs to the other matrix of the pair.
    pub fn row(self, tile: u32, r: u32) -> Option<u32> {
        let (g, upper) = (r % 8, r / 8);
        match self {
            RowOrder::Plain => Some(16 * tile + r),
            RowOrder::Rope { head_dim, pairs } => {
                let (first, tile) = (16 * tile / head_dim * head_dim, 16 * tile % head_dim / 16);
                Some(match 8 * tile {
                    i if i < pairs => first + i + g + upper * pairs,
                    _ => first + 16 * tile + r,
                })
            }
            RowOrder::Gate => (upper == 0).then_some(8 * tile + g),
            RowOrder::Up => (upper == 1).then_some(8 * tile + g),
        }
    }

    /// The tile, and the row in it, of a matrix row: the inverse of [`RowOrder::row`].
    pub fn place(self, row: u32) -> (u32, u32) {
        match self {
            RowOrder::Plain => (row / 16, row % 16),
            RowOrder::Rope { head_dim, pairs } => {
                let (head, i) = (row / head_dim, row % head_dim);
                let (tile, r) = match i / pairs {
                    upper @ 0..2 => {
                        let i = i % pairs;
                        (i / 8, i % 8 + 8 * upper)
                    }
                    _ => (i / 16, i % 16),
                };
                (head * (head_dim / 16) + tile, r)
            }
            RowOrder::Gate => (row / 8, row % 8),
            RowOrder::Up => (row / 8, row % 8 + 8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again() {
        let rope = |head_dim, pairs| RowOrder::rope(head_dim, pairs);
        let orders = [
            RowOrder::Plain,
            rope(128, 64),
            rope(64, 32),
            rope(96, 48),
            rope(64, 8),
            rope(16, 8),
            RowOrder::Gate,
            RowOrder::Up,
        ];
        for order in orders {
            let n = 384;
            for row in 0..n {
                let (tile, r) = order.place(row);
                assert!(tile < order.tiles(n) && r < 16);
                assert_eq!(order.row(tile, r), Some(row), "{order:?}");
            }
        }
    }

    #[test]
    fn partners_share_a_lane() {
        let order = RowOrder::rope(128, 64);
        for row in (0..256).filter(|row| row % 128 < 64) {
            let ((tile, r), partner) = (order.place(row), order.place(row + 64));
            assert_eq!(partner, (tile, r + 8));
        }
        for row in 0..100 {
            let (tile, r) = RowOrder::Gate.place(row);
            assert_eq!(RowOrder::Up.place(row), (tile, r + 8));
        }
        // Heads that do not fill tiles, or pairs that do not fill half of one, stay as they are.
        assert_eq!(RowOrder::rope(80, 12), RowOrder::Plain);
        assert_eq!(RowOrder::rope(24, 8), RowOrder::Plain);
        assert_eq!(RowOrder::rope(16, 16), RowOrder::Plain);
    }
}
