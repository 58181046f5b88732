//! Whether our programs still stand nearest to the wire.
//!
//! They attach first at ingress and last at egress, but whoever attaches later may ask for the same, and a
//! clsact filter can be deleted under us. Nothing is counted wrong for that without a word.

use std::time::{Duration, Instant};

use super::Target;
use crate::backend::probe::{self, Attached, Way};

/// Time between two looks: some 20 µs an interface and direction each.
const PERIOD: Duration = Duration::from_secs(10);

/// One of our programs at its place.
#[derive(Clone, Debug)]
pub struct Post {
    /// The interface.
    pub target: Target,
    /// Which way.
    pub way: Way,
    /// The kernel's number of our program.
    pub program: u32,
}

/// Our programs, each looked at now and then.
pub struct Order {
    posts: Vec<Watch>,
    next: Option<Instant>,
}

/// A post, with what was seen and said of it last.
struct Watch {
    post: Post,
    seen: Option<Vec<Option<u32>>>,
    said: String,
}

impl Order {
    /// Nothing to look at yet.
    pub const fn new() -> Self {
        Self { posts: Vec::new(), next: None }
    }

    /// Looks at these too, for the first time at the next check.
    pub fn add(&mut self, posts: Vec<Post>) {
        self.posts.extend(posts.into_iter().map(|post| Watch { post, seen: None, said: String::new() }));
        self.next = None;
    }

    /// Looks no longer at an interface.
    pub fn remove(&mut self, index: u32) {
        self.posts.retain(|watch| watch.post.target.index != index);
    }

    /// Calls an interface by another name.
    pub fn rename(&mut self, index: u32, name: &str) {
        for watch in self.posts.iter_mut().filter(|watch| watch.post.target.index == index) {
            name.clone_into(&mut watch.post.target.name);
        }
    }

    /// Looks, if it is time, and says each change once.
    pub fn check(&mut self, now: Instant) {
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + PERIOD);
        for Watch { post, seen, said } in &mut self.posts {
            // An interface that is gone, or no right to ask: nothing to be said about an order.
            let Ok(ids) = probe::chain_ids(post.target.index, post.way) else { continue };
            if seen.as_ref() == Some(&ids) {
                continue;
            }
            let text = match ids.as_slice() {
                [Some(only)] if *only == post.program => String::new(),
                _ => match probe::chain(post.target.index, post.way) {
                    Ok(chain) => judge(post, &chain),
                    Err(_) => continue,
                },
            };
            *seen = Some(ids);
            let before = std::mem::replace(said, text.clone());
            if !text.is_empty() && text != before {
                tracing::warn!("{}: {text}", post.target.name);
            } else if text.is_empty() && !before.is_empty() {
                tracing::info!(
                    "{}: nothing stands between our program and the wire any more",
                    post.target.name
                );
            }
        }
    }
}

/// What is wrong with a chain of programs, and what to do; empty where nothing is. Other agents of ours let
/// every packet go on, so they may stand anywhere.
fn judge(post: &Post, chain: &[Attached]) -> String {
    let Some(place) = chain.iter().position(|attached| attached.id == Some(post.program)) else {
        return format!(
            "our program at {} was removed by somebody: nothing is counted there until a restart",
            way(post.way)
        );
    };
    let ours = chain[place].place;
    // Names, and whether one of them is at the same kind of hook, so that attaching anew changes the order.
    let others = |part: &[Attached]| {
        let movable = part.iter().any(|attached| !attached.is_ours() && attached.place == ours);
        (others(part).join(", "), movable)
    };
    let (before, movable_before) = others(&chain[..place]);
    let (behind, movable_behind) = others(&chain[place + 1..]);
    match post.way {
        Way::Ingress if !before.is_empty() => format!(
            "{before} runs before our program at ingress: packets dropped, changed or passed with TC_ACT_OK \
             there are not counted as they arrive; {}",
            if movable_before { "a restart puts ours first" } else { "--hook tc counts before it" }
        ),
        Way::Egress if !before.is_empty() => format!(
            "{before} runs before our program at egress: packets are not counted if it passes them with \
             TC_ACT_OK, which ends the chain, instead of TC_ACT_UNSPEC"
        ),
        Way::Egress if !behind.is_empty() => format!(
            "{behind} runs behind our program at egress: packets dropped there are counted as sent; {}",
            if movable_behind { "a restart puts ours last" } else { "--hook clsact counts behind it" }
        ),
        _ => String::new(),
    }
}

/// Names of the programs that are no agent's of ours.
pub fn others(part: &[Attached]) -> Vec<String> {
    let mut names: Vec<String> =
        part.iter().filter(|attached| !attached.is_ours()).map(Attached::in_words).collect();
    // One filter may be several entries of one name.
    names.dedup();
    names
}

/// A way in words.
pub const fn way(way: Way) -> &'static str {
    match way {
        Way::Ingress => "ingress",
        Way::Egress => "egress",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{ebpf::Start, probe::Place};

    fn at(id: u32, name: &str) -> Attached {
        Attached {
            place: Place::TcxIngress,
            id: Some(id),
            name: name.into(),
            priority: None,
            handle: None,
            leftover: false,
        }
    }

    fn post(way: Way) -> Post {
        Post { target: Target { name: "eth0".into(), index: 2, start: Start::Ethernet }, way, program: 7 }
    }

    #[test]
    fn the_place_nearest_to_the_wire_needs_no_word() {
        let ours = at(7, "wherefore_in");
        let (other, agent) = (at(9, "cil_from_netdev"), at(8, "wherefore_in"));
        let alone = std::slice::from_ref(&ours);
        for way in Way::ALL {
            assert_eq!(judge(&post(way), alone), "");
            assert_eq!(judge(&post(way), &[agent.clone(), ours.clone(), agent.clone()]), "");
        }
        assert_eq!(judge(&post(Way::Ingress), &[ours, other]), "");
    }

    #[test]
    fn whoever_stands_between_is_named() {
        let (ours, other) = (at(7, "wherefore_in"), at(9, "firewall"));
        let before = [other.clone(), ours.clone()];
        let behind = [ours, other];
        let text = judge(&post(Way::Ingress), &before);
        assert!(text.starts_with("\"firewall\" (program 9) runs before"), "{text}");
        assert!(text.ends_with("a restart puts ours first"), "{text}");
        let text = judge(&post(Way::Egress), &behind);
        assert!(text.starts_with("\"firewall\" (program 9) runs behind"), "{text}");
        assert!(text.ends_with("a restart puts ours last"), "{text}");
        let filter = Attached { place: Place::ClsactEgress, name: "flower".into(), id: None, ..at(0, "") };
        let text = judge(&post(Way::Egress), &[behind[0].clone(), filter]);
        assert!(
            text.starts_with("\"flower\" runs") && text.ends_with("--hook clsact counts behind it"),
            "{text}"
        );
        assert!(judge(&post(Way::Egress), &before).contains("ends the chain"));
        for way in Way::ALL {
            assert!(judge(&post(way), &before[..1]).contains("removed"));
        }
    }
}
