//! Rows of a call that do not all follow each other.

/// Parents, with smaller indices than their children; a row without one follows the sequence.
#[derive(Clone, Debug)]
pub struct Tree(Vec<Option<u32>>);

impl Tree {
    pub fn new(parents: Vec<Option<u32>>) -> Tree {
        let before = |(row, parent): (usize, &Option<u32>)| parent.is_none_or(|p| p < row as u32);
        assert!(parents.iter().enumerate().all(before));
        Tree(parents)
    }

    pub fn chain(rows: u32) -> Tree {
        Tree::new((0..rows).map(|row| row.checked_sub(1)).collect())
    }

    /// A row, and all others its children.
    pub fn star(rows: u32) -> Tree {
        Tree::new((0..rows).map(|row| (row > 0).then_some(0)).collect())
    }

    /// A chain of half the rows, each with a leaf beside the next.
    pub fn comb(rows: u32) -> Tree {
        let parent = |row: u32| row.checked_sub(1 + u32::from(row.is_multiple_of(2)));
        Tree::new(
            (0..rows)
                .map(|row| if row == 0 { None } else { parent(row.max(2)) })
                .collect(),
        )
    }

    /// Each row hangs from any of the `reach` rows before it, or now and then from the sequence itself.
    pub fn random(rows: u32, reach: u32, seed: u64) -> Tree {
        let mut state = seed;
        let mut draw = |below: u32| {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            ((state >> 33) % u64::from(below)) as u32
        };
        let parent = |row: u32| {
            if row == 0 || draw(12) == 0 {
                return None;
            }
            Some(row - 1 - draw(row.min(reach)))
        };
        Tree::new((0..rows).map(parent).collect())
    }

    pub fn rows(&self) -> u32 {
        self.0.len() as u32
    }

    pub fn parent(&self, row: u32) -> Option<u32> {
        self.0[row as usize]
    }

    /// The ancestors of a row, the oldest first, and the row.
    pub fn path(&self, row: u32) -> Vec<u32> {
        let mut path: Vec<u32> =
            std::iter::successors(Some(row), |row| self.parent(*row)).collect();
        path.reverse();
        path
    }

    /// How many ancestors a row has.
    pub fn depth(&self, row: u32) -> u32 {
        self.path(row).len() as u32 - 1
    }

    /// Rows that are nobody's parent.
    pub fn leaves(&self) -> Vec<u32> {
        let is_leaf = |row: &u32| !self.0.contains(&Some(*row));
        (0..self.rows()).filter(is_leaf).collect()
    }
}
