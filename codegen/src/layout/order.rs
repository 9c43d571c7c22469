use super::TILE_ROWS;

/// Which rows of a matrix stand in which rows of its tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowOrder {
    /// Row r of tile i is row 16 i + r.
    Plain,
    /// Row g of tile i is row 8 i + g of the gate; rows g + 8 are those of the up projection.
    Gate,
    /// Row g + 8 of tile i is row 8 i + g of the up projection; rows g are those of the gate.
    Up,
}

impl RowOrder {
    /// Tiles that n rows take.
    pub fn tiles(self, n: u32) -> u32 {
        match self {
            RowOrder::Plain => n.div_ceil(TILE_ROWS as u32),
            RowOrder::Gate | RowOrder::Up => n.div_ceil(8),
        }
    }

    /// The matrix row in row r (below 16) of a tile; may be at or beyond n in the last tile, which is padding. `None`:
    /// the tile's row belongs to the other matrix of the pair.
    pub fn row(self, tile: u32, r: u32) -> Option<u32> {
        let (g, upper) = (r % 8, r / 8);
        match self {
            RowOrder::Plain => Some(16 * tile + r),
            RowOrder::Gate => (upper == 0).then_some(8 * tile + g),
            RowOrder::Up => (upper == 1).then_some(8 * tile + g),
        }
    }

    /// The tile, and the row in it, of a matrix row: the inverse of [`RowOrder::row`].
    pub fn place(self, row: u32) -> (u32, u32) {
        match self {
            RowOrder::Plain => (row / 16, row % 16),
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
        let orders = [RowOrder::Plain, RowOrder::Gate, RowOrder::Up];
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
        for row in 0..100 {
            let (tile, r) = RowOrder::Gate.place(row);
            assert_eq!(RowOrder::Up.place(row), (tile, r + 8));
        }
    }
}
