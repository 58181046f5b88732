//! The thread that waits for packets of all captures.

use std::{
    io::Read as _,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{Shared, lock, watch::Watch};

/// The reader thread: waits for packets and counts them until the other end of `news` is closed.
pub(super) fn read(shared: &Shared, mut news: UnixStream) {
    let mut bytes = [0; 64];
    let mut open = Vec::new();
    loop {
        match news.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => open = lock(&shared.watches).clone(),
            // Nothing new.
            Err(_) => {}
        }
        let due = shared.close_due();
        let events = match wait(news.as_fd(), &open, due) {
            Ok(events) => events,
            Err(error) => {
                // Polls go on counting what is there.
                tracing::error!("waiting for packets: {error}");
                return;
            }
        };
        let mut events = events.into_iter();
        open.retain(|watch| {
            let event = events.next().unwrap_or(PollFlags::empty());
            if event.is_empty() {
                return true;
            }
            let mut handle = lock(&watch.capture);
            watch.count(&mut handle, &shared.table);
            // libpcap takes an error for a sign that the interface may come back, and would wait.
            !handle.gone && (!event.contains(PollFlags::POLLERR) || watch.still_exists())
        });
    }
}

/// Waits for news or something on any capture, or as long as `most`: what each of these has to tell, in order.
fn wait(news: BorrowedFd<'_>, open: &[Arc<Watch>], most: Option<Duration>) -> nix::Result<Vec<PollFlags>> {
    // Rounded up, so that it is over then.
    let most = most.map(|most| most + Duration::from_millis(1));
    let timeout =
        most.map_or(PollTimeout::NONE, |most| PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX));
    let mut fds = Vec::with_capacity(open.len() + 1);
    fds.push(PollFd::new(news, PollFlags::POLLIN));
    fds.extend(open.iter().map(|watch| PollFd::new(watch.socket.as_fd(), PollFlags::POLLIN)));
    loop {
        match poll(&mut fds, timeout) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    // Flags this crate does not know still mean that something happened.
    Ok(fds.iter().skip(1).map(|fd| fd.revents().unwrap_or(PollFlags::POLLIN)).collect())
}
