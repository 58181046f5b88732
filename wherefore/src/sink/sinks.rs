//! Everyone who is told, as one.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Error,
    deliver::{Delivery, Drained, Pace, Status},
    log::{self, AnomalyLog, TextLog},
    slack::{self, Slack},
    transport::Transport,
};
use crate::{alert::Alert, enrich::own::OwnTraffic, time::Timestamp};

/// The sinks in use.
#[derive(Debug)]
pub struct Sinks {
    text: Option<TextLog>,
    anomalies: Option<AnomalyLog>,
    remote: Vec<Delivery>,
    own: OwnTraffic,
}

/// How each remote sink ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Name, shutdown, and totals.
    pub sinks: Vec<(&'static str, Drained, Status)>,
}

impl Outcome {
    /// Alerts that were not delivered when the time was up.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.sinks.iter().map(|(_, drained, _)| drained.left).sum()
    }
}

/// `Slack: 3 of 3 alerts delivered`, one sink a line.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, _, status)) in self.sinks.iter().enumerate() {
            write!(f, "{}{name}: {status}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl Sinks {
    /// Opens `wherefore_anomalies.log` and starts Slack's worker on the current tokio runtime.
    /// `wherefore.log` is opened before, when logging is set up ([`TextLog::open`]); hand it over by
    /// [`Self::with_text_log`].
    ///
    /// # Errors
    /// When the log file cannot be opened, the webhook's URL is none, or the system has no CA certificates.
    ///
    /// # Panics
    /// With Slack, outside a tokio runtime with I/O and time enabled.
    pub fn start(log: &log::Settings, slack: Option<&slack::Settings>) -> Result<Self, Error> {
        let own = OwnTraffic::new();
        let anomalies = AnomalyLog::open(log)?;
        let mut remote = Vec::new();
        if let Some(settings) = slack {
            let transport = Transport::new("Slack", &settings.url, own.clone())?;
            // Process and moment tell agents apart well enough for a jitter.
            let seed = Timestamp::now().0 ^ u64::from(std::process::id()).rotate_left(32);
            remote.push(Delivery::start(
                Arc::new(Slack::new(settings.clone())),
                transport,
                Pace::slack(seed),
            ));
        }
        Ok(Self { text: None, anomalies, remote, own })
    }

    /// Makes [`Self::reopen`] see to `wherefore.log` too.
    #[must_use]
    pub fn with_text_log(mut self, text: Option<TextLog>) -> Self {
        self.text = text;
        self
    }

    /// The connections the sinks make, and those of the agent at large; for marking them in snapshots.
    #[must_use]
    pub fn own_traffic(&self) -> OwnTraffic {
        self.own.clone()
    }

    /// Tells everyone. The file is written at once; the rest is queued. Never waits for a server.
    pub fn tell(&self, alert: &Alert) {
        if let Some(anomalies) = &self.anomalies {
            anomalies.tell(alert);
        }
        for delivery in &self.remote {
            delivery.submit(alert);
        }
    }

    /// Opens the log files anew (SIGHUP, after logrotate has renamed them).
    pub fn reopen(&self) {
        if let Some(text) = &self.text {
            text.reopen();
        }
        if let Some(anomalies) = &self.anomalies {
            anomalies.reopen();
        }
    }

    /// Alerts that wait for a server, over all sinks.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.remote.iter().map(|delivery| delivery.status().pending).sum()
    }

    /// Each remote sink's name and counts.
    #[must_use]
    pub fn status(&self) -> Vec<(&'static str, Status)> {
        self.remote.iter().map(|delivery| (delivery.name(), delivery.status())).collect()
    }

    /// Sends what waits, all sinks at a time, for `deadline` at most.
    pub async fn shutdown(self, deadline: Duration) -> Outcome {
        let end = tokio::time::Instant::now() + deadline;
        // The workers go on side by side; here they are only waited for, one after the other.
        for delivery in &self.remote {
            delivery.close();
        }
        let mut outcome = Outcome::default();
        for delivery in self.remote {
            let name = delivery.name();
            let (drained, status) =
                delivery.drain(end.saturating_duration_since(tokio::time::Instant::now())).await;
            outcome.sinks.push((name, drained, status));
        }
        outcome
    }
}
