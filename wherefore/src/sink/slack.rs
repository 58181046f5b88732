//! Slack by incoming webhook (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>).
//!
//! Slack's limits, kept by cutting text at a character: header 150, text of a section 3000, a field 2000,
//! ten fields. `& < >` are escaped, which is all it takes to keep outside text from mentioning people or
//! forming links; `verbatim` keeps Slack from making links of what looks like one.

use serde_json::{Value, json};

use super::{Answer, Request, Sink, Verdict};
use crate::{
    alert::{Alert, text},
    clean::is_hostile,
    finding::Finding,
    series::Metric,
    units::{format_bytes, format_duration},
};

const HEADER: usize = 150;
const SECTION: usize = 3000;
const FIELD: usize = 2000;

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

/// The encoder.
#[derive(Clone, Debug)]
pub struct Slack {
    settings: Settings,
}

impl Slack {
    /// Encodes for the webhook of `settings`.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

impl Sink for Slack {
    fn name(&self) -> &'static str {
        "Slack"
    }

    fn encode(&self, alert: &Alert) -> Request {
        let mut body = message(alert);
        let settings = &self.settings;
        for (name, value) in
            [("channel", &settings.channel), ("icon_emoji", &settings.emoji), ("icon_url", &settings.icon)]
        {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        Request {
            url: settings.url.clone(),
            content_type: "application/json",
            body: body.to_string().into_bytes().into(),
        }
    }

    /// By status, with advice where Slack's word for it says what is wrong with the webhook.
    fn verdict(&self, answer: &Answer) -> Verdict {
        let advice = match answer.body.as_str() {
            "no_service" | "no_team" | "invalid_token" | "no_active_hooks" => {
                "the webhook is gone: make a new one"
            }
            "channel_not_found" | "channel_is_archived" => "choose a channel that exists",
            "action_prohibited" | "posting_to_general_channel_denied" => {
                "the workspace forbids it: ask its administrator"
            }
            _ => return Verdict::by_status(answer),
        };
        match Verdict::by_status(answer) {
            Verdict::Refused { reason } => Verdict::Refused { reason: format!("{reason}; {advice}") },
            other => other,
        }
    }
}

fn message(alert: &Alert) -> Value {
    let finding = &alert.finding;
    let sentence = alert.sentence();
    let (what, mut fields) = match finding.broken() {
        Some(broken) => {
            let rule = [
                ("Condition", broken.rule.condition.to_string()),
                ("Severity", broken.rule.severity.name().to_owned()),
            ];
            ("Rule broken", rule.to_vec())
        }
        None => ("Unusual traffic", judged(finding)),
    };
    if !finding.contributors.is_empty() {
        fields.push((
            "Most of it",
            finding.contributors.iter().map(text::share).collect::<Vec<_>>().join(", "),
        ));
    }
    let fields: Vec<Value> =
        fields.into_iter().map(|(name, value)| mrkdwn(&format!("*{name}*\n"), &value, FIELD)).collect();
    let mut context =
        format!("{} · {} · {}", text::place(finding), text::seconds(finding), text::unit(finding));
    if alert.suppressed > 0 {
        context.push_str(&format!(" · {} more held back since it was last told", alert.suppressed));
    }
    json!({
        "text": escaped(&format!("{}: {sentence}", alert.host), SECTION),
        "unfurl_links": false,
        "unfurl_media": false,
        "blocks": [
            {
                "type": "header",
                "text": {
                    "type": "plain_text",
                    "text": escaped(&format!("{what} on {}", alert.host), HEADER),
                    "emoji": false,
                },
            },
            { "type": "section", "text": mrkdwn("", &sentence, SECTION) },
            { "type": "section", "fields": fields },
            { "type": "context", "elements": [mrkdwn("", &context, FIELD)] },
        ],
    })
}

/// What the detector judged.
fn judged(finding: &Finding) -> Vec<(&'static str, String)> {
    let usual = &finding.usual;
    let methods: Vec<String> =
        finding.evaluation.parts.iter().map(|part| format!("{} {:.2}", part.method, part.value)).collect();
    let interval = format_duration(finding.interval);
    let rate = match finding.metric {
        Metric::Bytes => format!(" ({}/s)", format_bytes(finding.rate())),
        Metric::Flows => String::new(),
    };
    let mut fields = match text::ends(finding) {
        Some((source, destination)) => vec![("From", source), ("To", destination)],
        None => vec![("Series", finding.series.to_string())],
    };
    fields.extend([
        ("Now", format!("{} in {interval}{rate}", text::amount(finding.metric, finding.value))),
        (
            "Usual",
            format!(
                "{} in {interval}, median {}",
                text::range_of(finding.metric, usual.low, usual.high),
                text::amount(finding.metric, usual.median)
            ),
        ),
        ("Probability", format!("{:.3}", finding.evaluation.probability)),
    ]);
    if !methods.is_empty() {
        fields.push(("Methods", methods.join(", ")));
    }
    fields
}

/// A text object: our own `markup` as it is, then outside `text` escaped, `limit` for both.
fn mrkdwn(markup: &str, text: &str, limit: usize) -> Value {
    let text = format!("{markup}{}", escaped(text, limit - markup.len()));
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

/// `text` with Slack's three control characters escaped and others replaced, at most `limit` long, counted
/// in UTF-16 units (the stricter of the two ways Slack may count). Neither a character nor an escape is
/// cut; a cut is marked by `…`.
fn escaped(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut length = 0;
    // Where to cut should the rest not fit.
    let mut cut = 0;
    let mut buffer = [0; 4];
    for c in text.chars() {
        let piece = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            c if is_hostile(c) => " ",
            c => c.encode_utf8(&mut buffer),
        };
        length += piece.encode_utf16().count();
        if length > limit {
            out.truncate(cut);
            out.push('…');
            return out;
        }
        out.push_str(piece);
        if length < limit {
            cut = out.len();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alert::samples;

    fn settings() -> Settings {
        Settings {
            url: "https://hooks.example/services/T/B/x".into(),
            channel: None,
            emoji: None,
            icon: None,
        }
    }

    fn encode(settings: Settings, alert: &Alert) -> Value {
        serde_json::from_slice(&Slack::new(settings).encode(alert).body).unwrap()
    }

    #[test]
    fn the_message_of_a_burst() {
        let mut alert = samples::connection();
        alert.suppressed = 3;
        let text = |text: &str| json!({ "type": "mrkdwn", "text": text, "verbatim": true });
        let sentence = "192.0.2.7:443 sent 4.1 GB to 198.51.100.9:51234 in 5 s (820 MB/s) over TCP, usually 12 to 40 MB, highest in 25 min";
        assert_eq!(
            encode(settings(), &alert),
            json!({
                "text": format!("web1: {sentence}"),
                "unfurl_links": false,
                "unfurl_media": false,
                "blocks": [
                    {
                        "type": "header",
                        "text": { "type": "plain_text", "text": "Unusual traffic on web1", "emoji": false },
                    },
                    { "type": "section", "text": text(sentence) },
                    { "type": "section", "fields": [
                        text("*From*\n192.0.2.7:443"),
                        text("*To*\n198.51.100.9:51234"),
                        text("*Now*\n4.1 GB in 5 s (820 MB/s)"),
                        text("*Usual*\n12 to 40 MB in 5 s, median 20 MB"),
                        text("*Probability*\n0.930"),
                        text("*Methods*\nmagnitude 1.00, ks 0.86"),
                    ] },
                    { "type": "context", "elements": [
                        text("eth0 egress · 2023-11-14T22:13:25Z · IP bytes · 3 more held back since it was last told"),
                    ] },
                ],
            })
        );
    }

    #[test]
    fn destination_and_icon_only_when_set() {
        let plain = encode(settings(), &samples::burst());
        for name in ["channel", "icon_emoji", "icon_url", "username"] {
            assert!(plain.get(name).is_none(), "{name}");
        }
        let set = Settings {
            channel: Some("#ops".into()),
            emoji: Some(":eyes:".into()),
            icon: Some("https://example.org/i.png".into()),
            ..settings()
        };
        let body = encode(set, &samples::burst());
        assert_eq!(
            (&body["channel"], &body["icon_emoji"], &body["icon_url"]),
            (&json!("#ops"), &json!(":eyes:"), &json!("https://example.org/i.png"))
        );
    }

    #[test]
    fn refusals_say_what_to_do() {
        let answer = Answer { status: 404, retry_after: None, body: "no_service".into() };
        match Slack::new(settings()).verdict(&answer) {
            Verdict::Refused { reason } => assert!(reason.contains("make a new one"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cuts_neither_characters_nor_escapes() {
        assert_eq!(escaped("a<b", 10), "a&lt;b");
        assert_eq!(escaped("a<bcdef", 6), "a&lt;…");
        assert_eq!(escaped("a<bcdef", 5), "a…");
        assert_eq!(escaped("ab", 2), "ab");
        assert_eq!(escaped("abc", 2), "a…");
        assert_eq!(escaped("😀😀", 3), "😀…");
    }

    /// Every text of the message with its limit.
    fn texts(body: &Value) -> Vec<(String, usize)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let blocks = &body["blocks"];
        let mut all = vec![
            (text(&body["text"]), SECTION),
            (text(&blocks[0]["text"]["text"]), HEADER),
            (text(&blocks[1]["text"]["text"]), SECTION),
            (text(&blocks[3]["elements"][0]["text"]), SECTION),
        ];
        let fields = blocks[2]["fields"].as_array().unwrap();
        assert!((1..=10).contains(&fields.len()));
        all.extend(fields.iter().map(|field| (text(&field["text"]), FIELD)));
        all
    }

    proptest! {
        /// Whatever a name holds, the message is within Slack's limits and has no control character of
        /// Slack's outside an escape.
        #[test]
        fn always_valid_and_within_limits(
            host in "\\PC{0,400}|(<!channel>|&|<https://x\\|y>|@here){0,900}",
            interface in "(.|\n|<|&){0,3000}",
            bytes: f64, low: f64, high: f64, probability: f64, suppressed: u64,
        ) {
            let mut alert = samples::connection();
            alert.host = host;
            alert.suppressed = suppressed;
            let finding = &mut alert.finding;
            finding.interface = interface;
            (finding.value, finding.evaluation.probability) = (bytes, probability);
            (finding.usual.low, finding.usual.high) = (low, high);
            for (text, limit) in texts(&encode(settings(), &alert)) {
                prop_assert!(!text.is_empty() && text.encode_utf16().count() <= limit);
                let bare = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
                prop_assert!(!bare.contains(['<', '>', '&']), "{}", text);
            }
        }
    }
}
