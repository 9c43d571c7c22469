//! Shadow of a memory for race detection: one granule per four bytes, in pages that appear when they are touched.

use super::log::Granule;

const PAGE: usize = 1024;

#[derive(Default)]
pub(crate) struct Shadow {
    pages: Vec<Option<Box<[Granule; PAGE]>>>,
}

impl Shadow {
    /// The granules from `word` to the end of its page, at most `most`.
    #[inline]
    pub fn words(&mut self, word: u64, most: u64) -> &mut [Granule] {
        let (page, at) = (word as usize / PAGE, word as usize % PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let granules = self.pages[page].get_or_insert_with(|| Box::new([Granule::default(); PAGE]));
        let end = PAGE.min(at + most.min(PAGE as u64) as usize);
        &mut granules[at..end]
    }

    pub fn for_each(&mut self, visit: &mut dyn FnMut(&mut Granule)) {
        self.pages
            .iter_mut()
            .flatten()
            .flat_map(|page| page.iter_mut())
            .for_each(visit);
    }
}
