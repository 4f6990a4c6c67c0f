//! What became of a record. All records of a batch share one [`Completion`]; a [`Receipt`] adds only the
//! record's place in it, so receipts are cheap to make and to drop.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::Error;

/// Of a record that is stored, the broker no longer knows where.
pub(super) const OFFSET_UNKNOWN: i64 = -1;

/// Where a record was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Delivered {
    pub partition: u32,
    /// -1 when it is stored and the broker no longer knows where: its answer was lost, and the repetition came late.
    pub offset: i64,
}

/// The fate of one record; await it. Dropping it changes nothing about the record.
#[must_use = "await it to learn whether the record was stored, or flush the producer later; `drop` it to say that is meant"]
#[derive(Debug)]
pub struct Receipt {
    completion: Arc<Completion>,
    index: u32,
    /// Our place among the completion's wakers.
    slot: Option<usize>,
}

/// The fate of one batch.
#[derive(Debug)]
pub(super) struct Completion {
    partition: u32,
    /// Offset of the first record.
    result: OnceLock<Result<i64, Error>>,
    wakers: Mutex<Vec<Waker>>,
}

impl Completion {
    pub(super) fn new(partition: u32) -> Self {
        Completion { partition, result: OnceLock::new(), wakers: Mutex::default() }
    }

    pub(super) fn partition(&self) -> u32 {
        self.partition
    }

    /// Tells everybody who waits; only the first call counts.
    pub(super) fn complete(&self, result: Result<i64, Error>) {
        if self.result.set(result).is_ok() {
            let wakers = std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner));
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn receipt(self: &Arc<Self>, index: usize) -> Receipt {
        let index = u32::try_from(index).expect("a batch holds less than 2^31 records");
        Receipt { completion: Arc::clone(self), index, slot: None }
    }
}

impl Receipt {
    /// The partition the record goes to.
    pub fn partition(&self) -> u32 {
        self.completion.partition
    }

    /// The result when it is known already.
    pub fn try_result(&self) -> Option<Result<Delivered, Error>> {
        let result = self.completion.result.get()?;
        let partition = self.completion.partition;
        let offset = |base| if base == OFFSET_UNKNOWN { base } else { base + i64::from(self.index) };
        Some(result.clone().map(|base| Delivered { partition, offset: offset(base) }))
    }
}

impl Future for Receipt {
    type Output = Result<Delivered, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.try_result() {
            return Poll::Ready(result);
        }
        let completion = Arc::clone(&self.completion);
        let mut wakers = completion.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        // Again under the lock: whoever completes takes it after setting the result.
        if let Some(result) = self.try_result() {
            return Poll::Ready(result);
        }
        match self.slot.and_then(|slot| wakers.get_mut(slot)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                self.slot = Some(wakers.len());
                wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn receipts_share_their_batch() {
        let completion = Arc::new(Completion::new(2));
        let (mut first, third) = (completion.receipt(0), completion.receipt(2));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut first).now_or_never().is_none());
        assert_eq!(completion.wakers.lock().unwrap().len(), 1, "polling again takes no second place");
        completion.complete(Ok(40));
        completion.complete(Err(Error::Closed("producer")));
        assert_eq!(first.now_or_never(), Some(Ok(Delivered { partition: 2, offset: 40 })));
        assert_eq!(third.try_result(), Some(Ok(Delivered { partition: 2, offset: 42 })));
    }
}
