//! A queue of fixed length: the UART's receive FIFO, and what an operator has typed ahead of it.

/// First in, first out, at most `N` of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring<T, const N: usize> {
    items: [T; N],
    first: usize,
    length: usize,
}

impl<T: Copy + Default, const N: usize> Default for Ring<T, N> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: Copy, const N: usize> Ring<T, N> {
    /// Nothing in it; `filler` is what unused places hold.
    #[must_use]
    pub const fn new(filler: T) -> Self {
        Self {
            items: [filler; N],
            first: 0,
            length: 0,
        }
    }

    /// How many are in it.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether none is.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds one at the end; false, and nothing changed, when it is full.
    #[must_use]
    pub fn push(&mut self, item: T) -> bool {
        if self.length >= N {
            return false;
        }
        let Some(place) = self.items.get_mut((self.first + self.length) % N) else {
            return false;
        };
        *place = item;
        self.length += 1;
        true
    }

    /// Takes the oldest out.
    pub fn pop(&mut self) -> Option<T> {
        if self.length == 0 {
            return None;
        }
        let item = self.items.get(self.first).copied();
        self.first = (self.first + 1) % N;
        self.length -= 1;
        item
    }

    /// Forgets all of them.
    pub const fn clear(&mut self) {
        self.first = 0;
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn it_is_a_queue_of_five(steps in proptest::collection::vec(proptest::option::of(any::<u8>()), 0..200)) {
            let mut ring = Ring::<u8, 5>::default();
            let mut model = VecDeque::new();
            for step in steps {
                match step {
                    Some(0) => {
                        ring.clear();
                        model.clear();
                    }
                    Some(item) => {
                        prop_assert_eq!(ring.push(item), model.len() < 5);
                        if model.len() < 5 {
                            model.push_back(item);
                        }
                    }
                    None => prop_assert_eq!(ring.pop(), model.pop_front()),
                }
                prop_assert_eq!((ring.len(), ring.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
