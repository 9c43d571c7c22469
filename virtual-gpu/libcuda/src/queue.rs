//! The queue of the device: jobs run on a thread of their own, one after the other, in the order of submission.

use crate::boundary::Answer;
use crate::error::{Code, NOT_PERMITTED, UNKNOWN};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use virtual_gpu::{Device, Profile};

type Work = Box<dyn FnOnce(&mut Device) -> Answer + Send>;

/// When a job runs after another has failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Not at all: launches, copies, fills.
    Work,
    /// Always: allocations, events, what must happen for the books to be right.
    Upkeep,
}

/// Number of a job: jobs end in the order of their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Default)]
struct Progress {
    done: Ticket,
    fault: Option<Code>,
    /// Whether a call has returned the fault: from then on all do.
    seen: bool,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// The queue.
pub struct Queue {
    shared: Arc<Shared>,
    entrance: Mutex<(Ticket, Sender<(Class, Work)>)>,
    worker: ThreadId,
}

/// A lock whose holder has panicked is still good: nothing is left half-done under it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// A queue for a device like `profile`.
    pub fn new(profile: Profile) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = channel::<(Class, Work)>();
        let progress = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("virtual-gpu".into())
            .spawn(move || {
                let mut device = Device::new(profile);
                for (class, work) in receiver {
                    let failed = lock(&progress.progress).fault.is_some();
                    let result = if failed && class == Class::Work {
                        drop(work);
                        Ok(())
                    } else {
                        // A panic may leave the device without its memory; the fault keeps everybody away from it.
                        catch_unwind(AssertUnwindSafe(|| work(&mut device))).unwrap_or(Err(UNKNOWN))
                    };
                    let mut progress_now = lock(&progress.progress);
                    progress_now.done.0 += 1;
                    if let Err(code) = result {
                        progress_now.fault.get_or_insert(code);
                    }
                    drop(progress_now);
                    progress.changed.notify_all();
                }
            })?;
        Ok(Self {
            shared,
            entrance: Mutex::new((Ticket::default(), sender)),
            worker: thread.thread().id(),
        })
    }

    /// Queues work that is left out after a fault; an error of it is a fault.
    pub fn submit(&self, work: impl FnOnce(&mut Device) -> Answer + Send + 'static) -> Ticket {
        self.push(Class::Work, Box::new(work))
    }

    /// Queues work that is done in any case.
    pub fn upkeep(&self, work: impl FnOnce(&mut Device) + Send + 'static) -> Ticket {
        self.push(
            Class::Upkeep,
            Box::new(|device| {
                work(device);
                Ok(())
            }),
        )
    }

    fn push(&self, class: Class, work: Work) -> Ticket {
        let mut entrance = lock(&self.entrance);
        entrance.0.0 += 1;
        // The worker ends only with the process.
        let _ = entrance.1.send((class, work));
        entrance.0
    }

    /// The last job so far.
    pub fn last(&self) -> Ticket {
        lock(&self.entrance).0
    }

    /// Whether a job has ended.
    pub fn is_done(&self, ticket: Ticket) -> bool {
        lock(&self.shared.progress).done >= ticket
    }

    /// Waits until a job has ended, whatever became of it.
    pub fn finish(&self, ticket: Ticket) -> Answer {
        if thread::current().id() == self.worker {
            return Err(NOT_PERMITTED);
        }
        let mut progress = lock(&self.shared.progress);
        while progress.done < ticket {
            progress = self
                .shared
                .changed
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Waits until a job has ended; an error if the device has a fault.
    pub fn wait(&self, ticket: Ticket) -> Answer {
        self.finish(ticket)?;
        self.observe()
    }

    /// Does work now, after all that was queued, and gives its result. It is done in any case.
    pub fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Device) -> T + Send + 'static,
    ) -> Answer<T> {
        let (sender, receiver) = channel();
        let ticket = self.upkeep(move |device| {
            let _ = sender.send(work(device));
        });
        self.finish(ticket)?;
        receiver.recv().map_err(|_| UNKNOWN)
    }

    /// The fault of the device, if it has one: from now on every call returns it.
    pub fn observe(&self) -> Answer {
        let mut progress = lock(&self.shared.progress);
        progress.seen |= progress.fault.is_some();
        progress.fault.map_or(Ok(()), Err)
    }

    /// The fault of the device, if a call has returned it before.
    pub fn check(&self) -> Answer {
        let progress = lock(&self.shared.progress);
        match progress.fault {
            Some(code) if progress.seen => Err(code),
            _ => Ok(()),
        }
    }

    /// Replaces the device by a new one, without fault.
    pub fn reset(&self, profile: Profile) -> Answer {
        self.ask(|device| *device = Device::new(profile))?;
        let mut progress = lock(&self.shared.progress);
        (progress.fault, progress.seen) = (None, false);
        Ok(())
    }
}
