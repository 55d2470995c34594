//! The two-way door between a loop's thread and the control thread: orders in, requests out, each with an eventfd.

use crate::clock::Nanos;
use crate::session::{Budget, Command, Connection, Wish};
use rustix::event::{eventfd, EventfdFlags};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::Arc;

/// What the control thread tells a loop.
pub enum Order {
    Command(Command),
    /// The connection may be made, to one of these addresses (resolved for this attempt).
    Grant {
        connection: Connection,
        addresses: Vec<SocketAddr>,
    },
    /// No attempt can be made: no address could be had.
    Refuse {
        connection: Connection,
        detail: String,
    },
    /// Asks for a report.
    Report(Sender<super::Report>),
    /// Drains and ends the loop.
    Stop,
}

/// What a loop asks of the control thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Connect {
        connection: Connection,
        url: String,
    },
    Token {
        connection: Connection,
        url: String,
    },
    /// So much of a budget of the address; what the connection says does not matter for fetches.
    Ask {
        budget: Budget,
        connection: Connection,
        amount: u32,
        url: String,
    },
    /// Nothing of a budget is to be granted for `wait` ns, to whichever loop.
    Hold {
        budget: Budget,
        connection: Connection,
        wait: Nanos,
        url: String,
    },
    /// The loop has ended; the error says why where it was not asked to.
    Stopped {
        error: Option<String>,
    },
}

/// A counter in the kernel that wakes the reader of a queue.
#[derive(Clone)]
pub struct Bell(Arc<OwnedFd>);

impl Bell {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    pub fn ring(&self) {
        // The counter can only fail to grow when it is near 2^64, and then it already wakes.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    pub fn silence(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The sending end of a queue whose receiver sleeps on a bell.
pub struct Outbox<T> {
    queue: Sender<T>,
    bell: Bell,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

impl<T> Outbox<T> {
    /// False: the other side is gone.
    pub fn post(&self, item: T) -> bool {
        let sent = self.queue.send(item).is_ok();
        self.bell.ring();
        sent
    }
}

impl Outbox<Request> {
    /// Passes on a wish that only the control thread can carry out; `url` is its connection's address.
    pub fn pass_on(&self, wish: &Wish, url: String) {
        match *wish {
            Wish::Token { connection } => self.post(Request::Token { connection, url }),
            Wish::Ask { budget, connection, amount } => self.post(Request::Ask { budget, connection, amount, url }),
            Wish::Hold { budget, connection, wait } => self.post(Request::Hold { budget, connection, wait, url }),
            _ => false,
        };
    }
}

/// The receiving end.
pub struct Inbox<T> {
    queue: Receiver<T>,
    bell: Bell,
}

impl<T> Inbox<T> {
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// The next item; None where there is none now.
    pub fn take(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }
}

/// A queue with a bell.
pub fn mailbox<T>() -> std::io::Result<(Outbox<T>, Inbox<T>)> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let bell = Bell::new()?;
    Ok((Outbox { queue: sender, bell: bell.clone() }, Inbox { queue: receiver, bell }))
}
