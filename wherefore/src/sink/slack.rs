//! Slack by incoming webhook.

/// Settings.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The webhook; a secret.
    pub url: String,
    /// Sent only when set: app-made webhooks ignore it.
    pub channel: Option<String>,
    /// Likewise.
    pub emoji: Option<String>,
    /// Likewise.
    pub icon: Option<String>,
}

/// The webhook's URL is its secret: never printed.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("url", &"<hidden>")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
