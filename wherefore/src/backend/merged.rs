//! Packets merged by offload, where their sizes are not known: marked by each backend, and said once a run here.

use crate::snapshot::Snapshot;

/// Says once what such packets mean.
#[derive(Debug)]
pub(super) struct Merged {
    /// Who sees them: "libpcap", …
    who: &'static str,
    /// What to do about it.
    remedy: &'static str,
    said: bool,
}

impl Merged {
    pub const fn new(who: &'static str, remedy: &'static str) -> Self {
        Self { who, remedy, said: false }
    }

    /// The words, if `snapshot` is the first with such packets.
    fn words(&mut self, snapshot: &Snapshot) -> Option<String> {
        if self.said {
            return None;
        }
        let estimated = snapshot.estimated();
        let mut names: Vec<_> =
            estimated.keys().map(|(ifindex, _)| snapshot.interface_name(*ifindex)).collect();
        names.dedup();
        let first = names.first()?;
        self.said = true;
        Some(format!(
            "{} sees packets that offload has merged ({}): each counts as one and is marked estimated, since how many \
             frames it is on the wire is not known. {}",
            self.who,
            names.join(", "),
            self.remedy.replace("INTERFACE", first)
        ))
    }

    /// Looks at an interval, with a warning for the first that has merged packets.
    pub fn check(&mut self, snapshot: &Snapshot) {
        if let Some(words) = self.words(snapshot) {
            tracing::warn!("{words}");
        }
    }
}

#[cfg(test)]
mod tests {
    use wherefore_common::{FlowCounters, FlowKey};

    use super::*;
    use crate::snapshot::Flow;

    fn snapshot(estimated: u64) -> Snapshot {
        let flow = |ifindex, direction| Flow {
            key: FlowKey { ifindex, direction, ..FlowKey::default() },
            counters: FlowCounters { packets: 9, estimated, ..FlowCounters::default() },
            own: false,
            locality: Default::default(),
        };
        Snapshot {
            interfaces: [(1, "eth0".to_owned()), (2, "eth1".to_owned())].into(),
            flows: vec![flow(1, 0), flow(1, 1), flow(2, 0), flow(1, 1)],
            ..Snapshot::default()
        }
    }

    #[test]
    fn it_is_said_once_of_which_interfaces() {
        let mut merged = Merged::new("libpcap", "ethtool -K INTERFACE gro off.");
        assert_eq!(merged.words(&snapshot(0)), None);
        let words = merged.words(&snapshot(2)).unwrap();
        assert!(words.starts_with("libpcap sees packets that offload has merged (eth0, eth1): "), "{words}");
        assert!(words.ends_with("ethtool -K eth0 gro off."), "{words}");
        assert_eq!(merged.words(&snapshot(2)), None);
        assert_eq!(snapshot(2).estimated(), [((1, 0), 2), ((1, 1), 4), ((2, 0), 2)].into());
    }
}
