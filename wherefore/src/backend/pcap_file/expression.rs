//! A tcpdump expression on the packets of files, with a program for each link type.

use wherefore_common::Reason;

use crate::backend::{
    Error,
    classic::{ETHERNET, Program, Unusable, compile},
    link,
};

/// An expression, with a program for each link type met.
#[derive(Debug)]
pub(super) struct Expression {
    text: String,
    programs: Vec<(i32, bool, Program)>,
}

impl Expression {
    pub(super) const fn new(text: String) -> Self {
        Self { text, programs: Vec::new() }
    }

    /// Whether a packet matches. All do of a link type that neither libpcap nor [`link`] knows anything about:
    /// they are counted as such, and other link types of the same run are not given up for it. `foreign`: the
    /// file is in the byte order that is not this machine's, which matters to the address family of BSD loopback.
    ///
    /// # Errors
    /// [`Error::Expression`] where libpcap does not take the expression for this link type.
    pub(super) fn matches(
        &mut self,
        linktype: i32,
        foreign: bool,
        frame: &[u8],
        wire_len: u32,
    ) -> Result<bool, Error> {
        Ok(self.program(linktype, foreign)?.run(frame, wire_len) != 0)
    }

    /// Compiles for a link type, if that was not done yet.
    ///
    /// # Errors
    /// As [`Expression::matches`].
    pub(super) fn check(&mut self, linktype: i32, foreign: bool) -> Result<(), Error> {
        self.program(linktype, foreign).map(|_| ())
    }

    fn program(&mut self, linktype: i32, foreign: bool) -> Result<&Program, Error> {
        let known = self.programs.iter().position(|(l, f, _)| (*l, *f) == (linktype, foreign));
        let place = match known {
            Some(place) => place,
            None => {
                let unknown = || link::parse(linktype, &[]) == Err(Reason::LinkType);
                let program = match compile(&self.text, linktype, foreign) {
                    Ok(program) => program,
                    // `ip6` on raw IPv4: true of no packet, and no reason to leave a file with other link types
                    // unread.
                    Err(Unusable::RejectsAll(_)) => Program::constant(0),
                    Err(_) if unknown() && compile(&self.text, ETHERNET, foreign).is_ok() => {
                        Program::constant(1)
                    }
                    Err(reason) => {
                        let reason = format!("link type {linktype}: {reason}");
                        return Err(Error::Expression { expression: self.text.clone(), reason });
                    }
                };
                self.programs.push((linktype, foreign, program));
                self.programs.len() - 1
            }
        };
        Ok(&self.programs[place].2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn len_is_the_wire_length() {
        let mut expression = Expression::new("greater 1000".to_owned());
        assert!(expression.matches(1, false, &[0; 14], 1_000).expect("compiles"));
        assert!(!expression.matches(1, false, &[0; 14], 999).expect("compiles"));
    }

    /// Loopback frames state the address family in the capturing host's byte order, IPv6 by several numbers.
    #[test]
    fn loopback_in_both_byte_orders() {
        let mut expression = Expression::new("ip6".to_owned());
        let mut frame = [0; 44];
        frame[4] = 0x60;
        for family in [24_u32, 28, 30] {
            let native = family.to_ne_bytes();
            frame[..4].copy_from_slice(&native);
            assert!(expression.matches(0, false, &frame, 44).expect("compiles"));
            frame[..4].copy_from_slice(&family.swap_bytes().to_ne_bytes());
            assert!(expression.matches(0, true, &frame, 44).expect("compiles"));
        }
    }

    #[test]
    fn refusals_carry_libpcaps_words() {
        let mut expression = Expression::new("prot 80".to_owned());
        let error = expression.check(1, false).expect_err("no such word").to_string();
        assert!(error.contains("prot 80") && error.contains("syntax error"), "{error}");
        let mut expression = Expression::new("ip6".to_owned());
        assert!(!expression.matches(228, false, &[0x60; 40], 40).expect("compiles to no"));
        let mut expression = Expression::new("tcp".to_owned());
        // Known to nobody: not ours to filter. The same words with a mistake in them are refused all the same.
        assert!(expression.matches(999, false, &[0; 40], 40).expect("taken"));
        assert!(Expression::new("prot 80".to_owned()).check(999, false).is_err());
        // Known here, so its packets may not slip through.
        let mut expression = Expression::new("ether host 02:00:00:00:00:01".to_owned());
        let error = expression.check(101, false).expect_err("no Ethernet addresses").to_string();
        assert!(error.contains("link type 101"), "{error}");
    }
}
