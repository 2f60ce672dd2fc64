//! Independent work spread over threads, with the results in the order of the items whatever the number of threads.

use std::sync::{Mutex, PoisonError};

/// Items above this size get all threads one after another, so that what they take of memory does not add up.
const LARGE: usize = 1 << 20;

/// Returns what `work` makes of every item, at most `threads` of them at a time.
pub fn map<T: Send, R: Send>(
    threads: usize,
    items: impl IntoIterator<Item = T, IntoIter: Send>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let items = items.into_iter();
    let most = items.size_hint().1.unwrap_or(usize::MAX).min(threads);
    if most <= 1 {
        return items.map(work).collect();
    }
    let items = Mutex::new(items.enumerate());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || -> Vec<(usize, R)> { std::iter::from_fn(next).map(|(i, item)| (i, work(item))).collect() };
    let mut made = std::thread::scope(|scope| {
        let others: Vec<_> = (1..most).map(|_| scope.spawn(run)).collect();
        let mut made = run();
        for other in others {
            made.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        made
    });
    made.sort_unstable_by_key(|(i, _)| *i);
    made.into_iter().map(|(_, result)| result).collect()
}

/// Returns what `work` makes of every item: small ones side by side with one thread each, then those of more than
/// [`LARGE`] elements one by one with all threads.
pub fn map_by_size<T: Send, R: Send>(
    threads: usize,
    items: impl IntoIterator<Item = T>,
    size: impl Fn(&T) -> usize,
    work: impl Fn(T, usize) -> R + Sync,
) -> Vec<R> {
    let (large, small): (Vec<_>, Vec<_>) = items.into_iter().enumerate().partition(|(_, item)| size(item) > LARGE);
    let mut made = map(threads, small, |(i, item)| (i, work(item, 1)));
    made.extend(large.into_iter().map(|(i, item)| (i, work(item, threads))));
    made.sort_unstable_by_key(|(i, _)| *i);
    made.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_with_any_number_of_threads() {
        let expected: Vec<usize> = (0..100).map(|i| i * i).collect();
        let size = |i: &usize| if i.is_multiple_of(7) { LARGE + 1 } else { 1 };
        for threads in [0, 1, 2, 3, 200] {
            assert_eq!(map(threads, 0..100, |i: usize| i * i), expected, "{threads} threads");
            assert_eq!(map_by_size(threads, 0..100, size, |i, _| i * i), expected, "{threads} threads, by size");
        }
    }

    #[test]
    fn large_items_get_all_threads() {
        assert_eq!(map_by_size(3, [1, LARGE + 1], |&size| size, |_, threads| threads), [1, 3]);
    }
}
