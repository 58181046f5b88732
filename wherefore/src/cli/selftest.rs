//! `wherefore selftest`: whether the numbers are right on this host.

use serde::Serialize;
use wherefore_common::Direction;

use crate::{
    backend,
    config::exit,
    render::{
        Format, Output,
        text::{count, csv_line, grouped, json_line, wrap},
    },
    selftest::{self, Count, Difference, Outcome, Verdict},
};

/// Tests and prints. The second value is the exit code: 1 if anything failed or was counted wrong, or nothing could be
/// tested.
///
/// # Errors
/// As [`selftest::run`].
pub fn run(format: Format, width: Option<usize>) -> Result<(Output, u8), backend::Error> {
    let outcomes = selftest::run()?;
    Ok((render(&outcomes, format, width), exit_code(&outcomes)))
}

/// 0 if something was tested and all of that is right, else 1.
#[must_use]
pub fn exit_code(outcomes: &[Outcome]) -> u8 {
    let mut tested =
        outcomes.iter().filter(|outcome| !matches!(outcome.verdict, Verdict::NotHere(_))).peekable();
    let right =
        tested.peek().is_some() && tested.all(|outcome| matches!(outcome.verdict, Verdict::Ok { .. }));
    if right { exit::OK } else { exit::FAILURE }
}

/// Prints the outcomes. JSON: `{"ok": …, "tests": […]}`; JSON Lines and CSV: one line per backend and hook.
#[must_use]
pub fn render(outcomes: &[Outcome], format: Format, width: Option<usize>) -> Output {
    #[derive(Serialize)]
    struct Whole<'a> {
        ok: bool,
        tests: Vec<Line<'a>>,
    }
    let lines = outcomes.iter().map(Line::of);
    let out = match format {
        Format::Json => json_line(&Whole { ok: exit_code(outcomes) == exit::OK, tests: lines.collect() }),
        Format::Jsonl => lines.map(|line| json_line(&line)).collect(),
        Format::Csv => {
            let rows = outcomes.iter().map(|outcome| {
                let line = Line::of(outcome);
                csv_line([line.backend, line.hook, line.result, &words(outcome).join("; ")])
            });
            csv_line(["backend", "hook", "result", "found"]) + &rows.collect::<String>()
        }
        Format::Table => table(outcomes, width),
    };
    Output { out, err: String::new() }
}

#[derive(Serialize)]
struct Line<'a> {
    backend: &'a str,
    hook: &'a str,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<Numbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counted: Option<Counted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Differing<'a>>,
}

#[derive(Serialize)]
struct Counted {
    ingress: Numbers,
    egress: Numbers,
}

#[derive(Serialize)]
struct Differing<'a> {
    traffic: &'a str,
    direction: &'static str,
    sent: Numbers,
    counted: Numbers,
}

#[derive(Serialize)]
struct Numbers {
    packets: u64,
    wire_bytes: u64,
    ip_bytes: u64,
    estimated: u64,
}

impl From<Count> for Numbers {
    fn from(count: Count) -> Self {
        let Count { packets, wire_bytes, ip_bytes, estimated } = count;
        Self { packets, wire_bytes, ip_bytes, estimated }
    }
}

impl<'a> Line<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        let (backend, hook) = (outcome.backend, outcome.hook.as_str());
        let line = Self {
            backend,
            hook,
            result: "ok",
            sent: None,
            counted: None,
            reason: None,
            differences: Vec::new(),
        };
        match &outcome.verdict {
            Verdict::Ok { sent, counted: [ingress, egress] } => Self {
                sent: Some((*sent).into()),
                counted: Some(Counted { ingress: (*ingress).into(), egress: (*egress).into() }),
                ..line
            },
            Verdict::NotHere(reason) => Self { result: "not_here", reason: Some(reason), ..line },
            Verdict::Failed(reason) => Self { result: "failed", reason: Some(reason), ..line },
            Verdict::Differs(found) => {
                let differing = |one: &'a Difference| Differing {
                    traffic: &one.traffic,
                    direction: one.direction.name(),
                    sent: one.sent.into(),
                    counted: one.counted.into(),
                };
                Self { result: "differs", differences: found.iter().map(differing).collect(), ..line }
            }
        }
    }
}

/// What was found, a line each.
fn words(outcome: &Outcome) -> Vec<String> {
    match &outcome.verdict {
        Verdict::Ok { sent, counted } => {
            let merged = counted.iter().any(|counted| counted != sent);
            let merged = if merged { "; super-frames are seen merged here" } else { "" };
            vec![format!("{} each way{merged}", amount(*sent))]
        }
        Verdict::NotHere(reason) => vec![reason.clone()],
        Verdict::Failed(reason) => reason.lines().map(|line| line.trim().to_owned()).collect(),
        Verdict::Differs(found) => found
            .iter()
            .map(|one| {
                let side = if one.direction == Direction::Egress { "sending" } else { "receiving" };
                format!("{}, {side}: {} sent, {} counted", one.traffic, amount(one.sent), amount(one.counted))
            })
            .collect(),
    }
}

fn amount(amount: Count) -> String {
    format!(
        "{}, {} ({} of IP{})",
        count(amount.packets, "packet", "packets"),
        count(amount.wire_bytes, "byte", "bytes"),
        grouped(amount.ip_bytes),
        if amount.estimated > 0 {
            format!("; {} estimated", grouped(amount.estimated))
        } else {
            String::new()
        }
    )
}

fn table(outcomes: &[Outcome], width: Option<usize>) -> String {
    let hooks = outcomes.iter().map(|outcome| outcome.hook.len()).max().unwrap_or(0);
    // Result and backend, each with the space after it, then the hook with two.
    let indent = 10 + 5 + hooks + 2;
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(20));
    let mut out = String::new();
    for outcome in outcomes {
        let result = match outcome.verdict {
            Verdict::Ok { .. } => "ok",
            Verdict::Differs(_) => "differs",
            Verdict::NotHere(_) => "not here",
            Verdict::Failed(_) => "failed",
        };
        let lines: Vec<String> = words(outcome).iter().flat_map(|line| wrap(line, room)).collect();
        let lines = lines.join(&format!("\n{}", " ".repeat(indent)));
        out.push_str(&format!("{result:<10}{:<5}{:<hooks$}  {lines}\n", outcome.backend, outcome.hook));
    }
    out
}
