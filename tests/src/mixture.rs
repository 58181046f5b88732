//! Random frames of every kind that tcpdump expressions are about.

use crate::Random;

/// Protocols behind IP, the usual ones more often.
const PROTOCOLS: [u8; 16] = [6, 6, 6, 6, 6, 17, 17, 17, 1, 58, 132, 2, 50, 51, 47, 4];
const PORTS: [u16; 8] = [80, 443, 53, 22, 8080, 1023, 5000, 40_000];
const MACS: [[u8; 6]; 5] =
    [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0xff; 6], [1, 0, 0x5e, 0, 0, 0xfb], [0x33, 0x33, 0, 0, 0, 1]];
const V4: [[u8; 4]; 8] = [
    [192, 0, 2, 1],
    [192, 0, 2, 2],
    [198, 51, 100, 7],
    [198, 51, 100, 200],
    [10, 1, 2, 3],
    [192, 168, 0, 1],
    [224, 0, 0, 251],
    [255, 255, 255, 255],
];
const V6: [[u8; 4]; 4] = [[0x20, 1, 0xd, 0xb8], [0x20, 1, 0xd, 0xb9], [0xfe, 0x80, 0, 0], [0xff, 2, 0, 0]];

fn one<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len())]
}

/// A frame of 15 to some 1,300 bytes.
#[must_use]
pub fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame = [one(random, &MACS), one(random, &MACS)].concat();
    let v6 = random.below(3) == 0;
    let ether_type = if v6 { 0x86dd_u16 } else { 0x0800 }.to_be_bytes();
    match random.below(20) {
        0..11 => frame.extend(ether_type),
        11..15 => {
            for _ in 0..=random.below(2) {
                frame.extend(one(random, &[0x8100_u16, 0x88a8]).to_be_bytes());
                frame.extend([random.below(256) as u8 & 0xf0, one(random, &[7, 7, 8])]);
            }
            frame.extend(ether_type);
        }
        15..17 => {
            frame.extend([0x88, 0x47]);
            let labels = 1 + random.below(2);
            for label in 1..=labels {
                frame.extend([0, 1, u8::from(label == labels), 64]);
            }
        }
        17 => frame.extend([0x88, 0x64, 0x11, 0, 0, 1, 0, 40, 0, if v6 { 0x57 } else { 0x21 }]),
        _ => {
            let other = [[8, 6], [0x80, 0x35], [0x88, 0xcc], [0x88, 0x63], [0, 38]];
            frame.extend(one(random, &other));
            // Of the last one: LLC of a spanning tree.
            frame.extend([0x42, 0x42, 3]);
            frame.extend((0..45).map(|_| random.next() as u8));
            return frame;
        }
    }
    frame.extend(packet(random, v6));
    if random.below(12) == 0 {
        frame.truncate(15 + random.below(frame.len() - 15));
    }
    frame
}

/// An IP packet.
#[must_use]
pub fn packet(random: &mut Random, v6: bool) -> Vec<u8> {
    let proto = one(random, &PROTOCOLS);
    let payload = payload(random, proto);
    if v6 {
        let extended = random.below(5) == 0;
        let length = (payload.len() + usize::from(extended) * 8) as u16;
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([if extended { 0 } else { proto }, one(random, &[64, 255])]);
        for _ in 0..2 {
            packet.extend(one(random, &V6));
            packet.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, one(random, &[1, 1, 2])]);
        }
        if extended {
            packet.extend([proto, 0, 1, 4, 0, 0, 0, 0]);
        }
        packet.extend(payload);
        return packet;
    }
    let options = random.below(8).saturating_sub(5);
    let mut packet = vec![0x45 + options as u8, one(random, &[0, 0, 2, 3])];
    packet.extend(((20 + options * 4 + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(one(random, &[0x4000_u16, 0x4000, 0, 0, 0x2000, 0x2010, 0x0010]).to_be_bytes());
    packet.extend([one(random, &[64, 63, 128, 1]), proto, 0, 0]);
    packet.extend(one(random, &V4));
    packet.extend(one(random, &V4));
    packet.extend(vec![1; options * 4]);
    packet.extend(payload);
    packet
}

fn payload(random: &mut Random, proto: u8) -> Vec<u8> {
    let mut payload = Vec::new();
    let length = one(random, &[0, 6, 30, 64, 1200]) + random.below(8);
    match proto {
        6 | 17 | 132 => {
            payload.extend(one(random, &PORTS).to_be_bytes());
            payload.extend(one(random, &PORTS).to_be_bytes());
        }
        _ => payload.extend(one(random, &[[8, 0, 0, 0], [3, 3, 0, 0], [135, 0, 0, 0], [0, 0, 0, 0]])),
    }
    match proto {
        6 => {
            let flags = one(random, &[0x02, 0x12, 0x10, 0x11, 0x04]);
            payload.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
            payload.extend(one(random, &[*b"GET ", *b"PUT "]));
        }
        17 => payload.extend([((8 + length) >> 8) as u8, (8 + length) as u8, 0, 0]),
        _ => {}
    }
    payload.extend((0..length).map(|_| random.next() as u8));
    payload
}
