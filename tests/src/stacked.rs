//! Random frames with headers upon headers: more of some than the parser follows.

use crate::Random;

/// A frame of up to 40 tags and labels and up to 70 extension headers, seldom that many.
#[must_use]
pub fn stacked(random: &mut Random) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let deep = random.below(8) == 0;
    let links = random.below(if deep { 40 } else { 4 });
    let v6 = random.below(2) == 0;
    let mut mpls = false;
    for _ in 0..links {
        if mpls || random.below(8) == 0 {
            if !mpls {
                frame.extend(0x8847_u16.to_be_bytes());
            }
            frame.extend([1, 2, 0, 64]);
            mpls = true;
        } else {
            let kind = [0x8100_u16, 0x88a8, 0x9100, 0x893f, 0x8926, 0x8864][random.below(6)];
            frame.extend(kind.to_be_bytes());
            match kind {
                0x893f => frame.extend([0; 6]),
                0x8926 => frame.extend([0; 4]),
                0x8864 => {
                    frame.extend([0x11, 0, 0, 1, 0, 40, 0, if v6 { 0x57 } else { 0x21 }]);
                    return finish(frame, v6, random);
                }
                _ => frame.extend([0, 7]),
            }
        }
    }
    if mpls {
        let bottom = frame.len() - 2;
        frame[bottom] |= 1;
    } else {
        frame.extend(if v6 { 0x86dd_u16 } else { 0x0800 }.to_be_bytes());
    }
    finish(frame, v6, random)
}

fn finish(mut frame: Vec<u8>, v6: bool, random: &mut Random) -> Vec<u8> {
    let proto = [6, 17, 1, 58, 132, 33, 136, 47, 50][random.below(9)];
    let payload = [0x12, 0x34, 0, 80, 0, 20, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0];
    if v6 {
        let most = if random.below(4) == 0 { 70 } else { 4 };
        let count = random.below(most);
        let kinds: Vec<u8> = (0..count).map(|_| [0, 43, 60, 51, 44][random.below(5)]).collect();
        let mut chain = Vec::new();
        for (i, kind) in kinds.iter().enumerate() {
            let next = kinds.get(i + 1).copied().unwrap_or(proto);
            let more = random.below(2) as u8;
            match kind {
                51 => chain.extend([next, 1 + more, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                44 => chain.extend([next, 0, 0, more, 0, 0, 0, 1]),
                _ => chain.extend([next, more, 1, 4, 0, 0, 0, 0]),
            }
            if *kind != 44 && more > 0 {
                chain.extend(vec![0; if *kind == 51 { 4 } else { 8 }]);
            }
        }
        let length = (chain.len() + payload.len()) as u16;
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([kinds.first().copied().unwrap_or(proto), 64]);
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, random.below(256) as u8]);
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        frame.extend(chain);
    } else {
        let options = random.below(11);
        let length = (20 + options * 4 + payload.len()) as u16;
        let frags: u16 = [0, 0x4000, 0x2000, 0x2010, 0x0010][random.below(5)];
        frame.extend([0x45 + options as u8, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 1]);
        frame.extend(frags.to_be_bytes());
        frame.extend([64, proto, 0, 0, 192, 0, 2, random.below(256) as u8, 198, 51, 100, 7]);
        frame.extend(vec![1; options * 4]);
    }
    frame.extend(payload);
    frame
}
