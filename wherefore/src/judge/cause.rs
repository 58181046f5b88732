//! One finding for one cause. Pure: what is part of what is an argument.

use std::collections::{BTreeMap, HashMap};

use crate::series::{Level, Metric, SeriesKey};

/// A finer series that makes so much of a coarser one's change explains it.
pub(super) const EXPLAINS: f64 = 0.5;

/// A series that is unusual.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub key: SeriesKey,
    pub metric: Metric,
    /// What it carries beyond what is usual; negative where that is less.
    pub change: f64,
    /// It carries nothing at all.
    pub silent: bool,
    pub probability: f64,
    /// The change that was told a short while ago; `None`: it would be told now.
    pub told: Option<f64>,
}

/// A finer series' part in the change of a coarser one, in what that one measures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Which candidate.
    pub finer: usize,
    pub change: f64,
}

/// A candidate to be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// Which.
    pub index: usize,
    /// Candidates with the same cause, and their parts in its change; of coarser ones, its part in theirs.
    pub folded: Vec<(usize, f64)>,
    /// The other direction.
    pub reverse: Option<usize>,
}

/// What is told of the candidates, in their order. `parts`: of each candidate the finer ones that are part of it.
///
/// From the finest level on: of several candidates of one key, and of the two directions of one conversation, one is
/// told; a coarser one that a single finer one explains is not told; where several finer ones explain it together, it is
/// told in their place. What a finding explains that was told a short while ago is told no more.
pub(super) fn resolve(candidates: &[Candidate], parts: &[Vec<Part>]) -> Vec<Told> {
    let mut causes = Causes { candidates, parts, into: vec![None; candidates.len()] };
    let mut reverse = BTreeMap::new();
    causes.unite_keys();
    causes.unite_directions(&mut reverse);
    for level in [Level::Pair, Level::Net, Level::Interface] {
        let coarse: Vec<usize> =
            (0..candidates.len()).filter(|&i| candidates[i].key.level() == level).collect();
        coarse.iter().for_each(|&i| causes.follow_told(i));
        coarse.iter().for_each(|&i| causes.explain(i));
    }
    causes.told(&reverse)
}

struct Causes<'a> {
    candidates: &'a [Candidate],
    parts: &'a [Vec<Part>],
    /// The candidate that each is folded into.
    into: Vec<Option<usize>>,
}

impl Causes<'_> {
    /// It would be told, so far.
    fn is_open(&self, i: usize) -> bool {
        self.candidates[i].told.is_none() && self.into[i].is_none()
    }

    fn root(&self, mut i: usize) -> usize {
        while let Some(next) = self.into[i] {
            i = next;
        }
        i
    }

    fn fold(&mut self, i: usize, into: usize) {
        let root = self.root(into);
        if self.is_open(i) && root != i {
            self.into[i] = Some(root);
        }
    }

    /// Its part in the change of `coarse`, where both go the same way.
    fn share(&self, part: Part, coarse: usize) -> f64 {
        let share = part.change / self.candidates[coarse].change;
        if share.is_finite() { share.max(0.0) } else { 0.0 }
    }

    /// Of the candidates of one key that which was told, else the rarest.
    fn unite_keys(&mut self) {
        let mut best: HashMap<SeriesKey, usize> = HashMap::new();
        let rank = |i: usize| {
            let Candidate { told, probability, .. } = self.candidates[i];
            (told.is_some(), probability)
        };
        for i in 0..self.candidates.len() {
            let best = best.entry(self.candidates[i].key).or_insert(i);
            if rank(i) > rank(*best) {
                *best = i;
            }
        }
        for i in 0..self.candidates.len() {
            self.fold(i, best[&self.candidates[i].key]);
        }
    }

    /// Of the two directions of a conversation that which was told, else the larger.
    fn unite_directions(&mut self, reverse: &mut BTreeMap<usize, usize>) {
        let by_key: HashMap<SeriesKey, usize> = (0..self.candidates.len())
            .filter(|&i| self.into[i].is_none())
            .map(|i| (self.candidates[i].key, i))
            .collect();
        for i in 0..self.candidates.len() {
            let other = self.candidates[i].key.reverse().and_then(|key| by_key.get(&key).copied());
            let Some(other) = other.filter(|_| self.is_open(i)) else { continue };
            let (mine, its) = (&self.candidates[i], &self.candidates[other]);
            let larger = if mine.metric == its.metric {
                its.change.abs().total_cmp(&mine.change.abs())
            } else {
                its.probability.total_cmp(&mine.probability)
            };
            if its.told.is_some() || larger.then(mine.key.cmp(&its.key)).is_gt() {
                self.fold(i, other);
                reverse.insert(self.root(other), i);
            }
        }
    }

    /// What is part of a change that was told is told no more, unless the change has grown by it since.
    fn follow_told(&mut self, coarse: usize) {
        let Candidate { change, told: Some(told), .. } = self.candidates[coarse] else { return };
        for &part in &self.parts[coarse] {
            let grown = (change - told) / part.change;
            let held = told / part.change;
            if held >= EXPLAINS && grown < EXPLAINS {
                self.fold(part.finer, coarse);
            }
        }
    }

    fn explain(&mut self, coarse: usize) {
        if !self.is_open(coarse) {
            return;
        }
        let shares: Vec<(usize, f64)> = self.parts[coarse]
            .iter()
            .map(|&part| (part.finer, self.share(part, coarse)))
            .filter(|(finer, share)| *share > 0.0 && *finer != coarse)
            .collect();
        if self.candidates[coarse].silent {
            // Who fell silent with all others is not what explains it.
            for (finer, _) in shares {
                self.fold(finer, coarse);
            }
            return;
        }
        let single = shares.iter().filter(|(_, share)| *share >= EXPLAINS).max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some(&(finer, _)) = single {
            self.fold(coarse, finer);
            return;
        }
        // What is folded into another part counts there.
        let apart: Vec<_> = shares.into_iter().filter(|(finer, _)| self.into[*finer].is_none()).collect();
        let sum = |told: bool| -> f64 {
            let of = apart.iter().filter(|(finer, _)| !told || self.candidates[*finer].told.is_some());
            of.map(|(_, share)| share).sum()
        };
        if sum(true) >= EXPLAINS {
            let largest = apart
                .iter()
                .filter(|(finer, _)| self.candidates[*finer].told.is_some())
                .max_by(|a, b| a.1.total_cmp(&b.1));
            if let Some(&(finer, _)) = largest {
                self.fold(coarse, finer);
            }
        } else if sum(false) >= EXPLAINS {
            for (finer, _) in apart {
                self.fold(finer, coarse);
            }
        }
    }

    fn told(&self, reverse: &BTreeMap<usize, usize>) -> Vec<Told> {
        let mut told: BTreeMap<usize, Told> = (0..self.candidates.len())
            .filter(|&i| self.is_open(i))
            .map(|index| (index, Told { index, reverse: reverse.get(&index).copied(), ..Told::default() }))
            .collect();
        for i in 0..self.candidates.len() {
            let root = self.root(i);
            let Some(told) = told.get_mut(&root).filter(|told| root != i && told.reverse != Some(i)) else {
                continue;
            };
            let part = |coarse: usize, finer: usize| {
                let part = self.parts[coarse].iter().find(|part| part.finer == finer);
                part.map(|&part| self.share(part, coarse).min(1.0))
            };
            told.folded.push((i, part(root, i).or_else(|| part(i, root)).unwrap_or(0.0)));
        }
        for told in told.values_mut() {
            told.folded.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        }
        told.into_values().collect()
    }
}

#[cfg(test)]
#[path = "cause_tests.rs"]
mod tests;
