//! `wherefore flows`: who sent how much to whom, from captures or a live host.

use crate::{
    backend::{Backend, Error},
    render::{Report, Summary},
};

/// Reads `backend` to its end and sums it up.
///
/// A live backend is polled whenever `wait` returns, for the last time after it returned false (the time is
/// over, or somebody pressed Ctrl-C). For files `wait` is not called.
///
/// A fault does not throw away what was counted: the report comes with the errors, so that the command can
/// print the one, report the others, and exit with a failure. Files are read on after an error, until one
/// repeats itself; a live backend is given up at the first.
pub fn collect(
    backend: &mut dyn Backend,
    mut summary: Summary,
    mut wait: impl FnMut() -> bool,
) -> (Report, Vec<Error>) {
    let live = backend.is_live();
    let mut errors: Vec<Error> = Vec::new();
    loop {
        let last = live && !wait();
        match backend.poll() {
            Ok(Some(snapshot)) => summary.add(&snapshot),
            Ok(None) => break,
            Err(error) => {
                let repeats = errors.last().is_some_and(|before| before.to_string() == error.to_string());
                if !repeats {
                    errors.push(error);
                }
                if repeats || live {
                    break;
                }
            }
        }
        if last {
            break;
        }
    }
    (summary.finish(), errors)
}

#[cfg(test)]
mod tests {
    use wherefore_common::{Amount, UnaccountedKey};

    use super::*;
    use crate::{backend::Description, render::KeyKind, snapshot::Snapshot};

    /// Answers in order; then `None` for ever, or the last answer if that was an error.
    struct Script {
        live: bool,
        answers: Vec<Result<Option<Snapshot>, &'static str>>,
        polls: usize,
        description: Description,
    }

    impl Backend for Script {
        fn description(&self) -> &Description {
            &self.description
        }
        fn is_live(&self) -> bool {
            self.live
        }
        fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
            let answer = self.answers.get(self.polls).or(self.answers.last()).cloned();
            self.polls += 1;
            answer.unwrap_or(Ok(None)).map_err(|text| Error::Permission(text.to_owned()))
        }
    }

    fn one_packet() -> Option<Snapshot> {
        let mut snapshot = Snapshot::default();
        snapshot.add_unaccounted(UnaccountedKey::default(), Amount { packets: 1, wire_bytes: 60 });
        Some(snapshot)
    }

    fn packets(script: &mut Script, wait: impl FnMut() -> bool) -> (u64, usize) {
        let (report, errors) = collect(script, Summary::new(KeyKind::Flow, false), wait);
        (report.total.packets, errors.len())
    }

    fn script(live: bool, answers: Vec<Result<Option<Snapshot>, &'static str>>) -> Script {
        Script { live, answers, polls: 0, description: Description::default() }
    }

    #[test]
    fn files_are_read_on_after_faults_until_one_repeats() {
        let answers = vec![Err("a"), Ok(one_packet()), Err("b"), Ok(one_packet()), Ok(None)];
        assert_eq!(packets(&mut script(false, answers), || unreachable!()), (2, 2));
        assert_eq!(packets(&mut script(false, vec![Ok(one_packet()), Err("a")]), || unreachable!()), (1, 1));
    }

    #[test]
    fn a_live_host_is_polled_once_more_at_the_end() {
        let mut left = 3;
        let wait = || {
            left -= 1;
            left > 0
        };
        assert_eq!(packets(&mut script(true, vec![Ok(one_packet())]), wait), (3, 0));
        assert_eq!(packets(&mut script(true, vec![Err("down")]), || true), (0, 1));
    }
}
