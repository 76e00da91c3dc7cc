//! A vector that grows shelf by shelf. What an ordinary one costs with ten thousand connections, a copy of megabytes in one
//! turn of the core and as much memory again that nobody uses, this one does not.

use std::ops::{Index, IndexMut};

/// Items of a shelf: a few dozen KiB of what connections have.
const SHELF: usize = 256;

pub struct Shelves<T>(Vec<Vec<T>>);

impl<T> Shelves<T> {
    pub const fn new() -> Shelves<T> {
        Shelves(Vec::new())
    }

    pub fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * SHELF + last.len())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers the index of the new item.
    pub fn push(&mut self, item: T) -> usize {
        let index = self.len();
        match self.0.last_mut() {
            Some(last) if last.len() < SHELF => last.push(item),
            _ => {
                let mut shelf = Vec::with_capacity(SHELF);
                shelf.push(item);
                self.0.push(shelf);
            }
        }
        index
    }

    pub fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index / SHELF)?.get(index % SHELF)
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.0.get_mut(index / SHELF)?.get_mut(index % SHELF)
    }
}

/// As a vector's: for indices that are known to be in range.
impl<T> Index<usize> for Shelves<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.0[index / SHELF][index % SHELF]
    }
}

impl<T> IndexMut<usize> for Shelves<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.0[index / SHELF][index % SHELF]
    }
}

impl<T> Default for Shelves<T> {
    fn default() -> Shelves<T> {
        Shelves::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_where_they_were_put() {
        let mut shelves = Shelves::new();
        assert!(shelves.is_empty());
        for n in 0..3 * SHELF + 1 {
            assert_eq!(shelves.len(), n);
            assert_eq!(shelves.push(n), n);
        }
        let first: *const usize = shelves.get(0).unwrap();
        assert!((0..shelves.len()).all(|n| shelves.get(n) == Some(&n)));
        assert_eq!(shelves.get_mut(shelves.len()), None);
        shelves[SHELF] = 7;
        assert_eq!((shelves[SHELF], shelves.get(SHELF)), (7, Some(&7)));
        (0..10 * SHELF).for_each(|n| assert!(shelves.push(n) > n));
        assert!(std::ptr::eq(first, shelves.get(0).unwrap()), "nothing is moved by growth");
    }
}
