use wherefore_common::Reason;

use super::parse;

/// An IPv4 or IPv6 header with nothing behind it, from documentation addresses.
fn packet(family: u8) -> Vec<u8> {
    if family == 4 {
        let mut bytes = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0];
        bytes.extend([192, 0, 2, 1, 198, 51, 100, 2]);
        return bytes;
    }
    let mut bytes = vec![0x60, 0, 0, 0, 0, 0, 59, 64];
    for last in [1, 2] {
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    bytes
}

fn zeros(count: usize) -> Vec<u8> {
    vec![0; count]
}

/// What precedes the IP header, by link type and family of what follows.
fn framings() -> Vec<(i32, u8, Vec<u8>)> {
    let snap = |kind: [u8; 2]| [0xaa, 0xaa, 3, 0, 0, 0, kind[0], kind[1]].to_vec();
    let ethernet = |kind: [u8; 2]| [zeros(12), kind.to_vec()].concat();
    let wlan = |control: u8, flags: u8, len: usize| [vec![control, flags], zeros(len - 2)].concat();
    let radiotap = |present: u32, fields: &[u8]| {
        let len = u8::try_from(8 + fields.len()).expect("short");
        [vec![0, 0, len, 0], present.to_le_bytes().to_vec(), fields.to_vec()].concat()
    };
    let mut aggregate = wlan(0x88, 1, 26);
    aggregate[24] = 0x80;
    vec![
        (0, 4, vec![2, 0, 0, 0]),
        (0, 4, vec![0, 0, 0, 2]),
        (0, 6, vec![30, 0, 0, 0]),
        (108, 6, vec![0, 0, 0, 24]),
        (0, 4, vec![0x0f, 0, 8, 0]),
        (1, 4, ethernet([8, 0])),
        (6, 4, [vec![0, 0x40], zeros(12), snap([8, 0])].concat()),
        (
            6,
            6,
            [vec![0, 0x40], zeros(6), vec![0x80, 0, 0, 0, 0, 0], vec![4, 0, 0, 0], snap([0x86, 0xdd])]
                .concat(),
        ),
        (7, 4, vec![1, 2, 240]),
        (7, 4, vec![1, 2, 212, 0, 0, 1]),
        (129, 4, vec![1, 2, 0, 0, 212, 0xff, 0xff, 0xff, 212, 3, 0, 1]),
        (9, 4, vec![0xff, 3, 0, 0x21]),
        (9, 6, vec![0, 0x57]),
        (9, 4, vec![0x21]),
        (204, 4, vec![1, 0xff, 3, 0, 0x21]),
        (166, 4, vec![0, 3, 0, 0x21]),
        (10, 4, [vec![0x50], zeros(12), snap([8, 0])].concat()),
        (100, 6, snap([0x86, 0xdd])),
        (100, 4, vec![0xfe, 0xfe, 3, 0xcc]),
        (100, 4, [vec![0xaa, 0xaa, 3, 0, 0x80, 0xc2, 0, 7, 0, 0], ethernet([8, 0])].concat()),
        (101, 4, vec![]),
        (12, 6, vec![]),
        (106, 4, vec![]),
        (106, 4, snap([8, 0])),
        (50, 4, vec![0xff, 3, 0, 0x21]),
        (51, 6, vec![0x11, 0, 0, 1, 0, 42, 0, 0x57]),
        (104, 6, vec![0x8f, 0, 0x86, 0xdd]),
        (105, 4, [wlan(8, 1, 24), snap([8, 0])].concat()),
        (105, 4, [wlan(0x88, 3, 32), snap([8, 0])].concat()),
        (105, 6, [wlan(0x88, 0x81, 30), snap([0x86, 0xdd])].concat()),
        (105, 4, [aggregate, ethernet([0, 28]), snap([8, 0])].concat()),
        (127, 4, [radiotap(0, &[]), wlan(8, 1, 24), snap([8, 0])].concat()),
        (127, 4, [radiotap(3, &[0, 0, 0, 0, 0, 0, 0, 0, 0x20]), wlan(0x88, 1, 28), snap([8, 0])].concat()),
        (127, 4, [radiotap(0x8000_0002, &[0, 0, 0, 0, 0x20]), wlan(0x88, 1, 28), snap([8, 0])].concat()),
        (119, 4, [zeros(144), wlan(8, 1, 24), snap([8, 0])].concat()),
        (163, 4, [vec![0x80, 0x21, 0x10, 1, 0, 0, 0, 12], zeros(4), wlan(8, 1, 24), snap([8, 0])].concat()),
        (192, 4, [vec![0, 0, 12, 0, 1, 0, 0, 0], zeros(4), ethernet([8, 0])].concat()),
        (107, 4, vec![0x18, 0x41, 3, 0xcc]),
        (107, 6, vec![0x18, 0x41, 0x86, 0xdd]),
        (107, 4, vec![0x18, 0x40, 0x40, 0x41, 3, 0, 0x80, 0, 0, 0, 8, 0]),
        (109, 6, zeros(12)),
        (113, 4, [zeros(14), vec![8, 0]].concat()),
        (113, 4, [zeros(14), vec![0, 4], snap([8, 0])].concat()),
        (276, 6, [vec![0x86, 0xdd], zeros(18)].concat()),
        (117, 4, [vec![61, 2], zeros(62)].concat()),
        (122, 4, [zeros(16), snap([8, 0])].concat()),
        (123, 4, [vec![2, 0, 0, 1], snap([8, 0])].concat()),
        (123, 4, [vec![0x81, 0, 0, 1, 0, 1], ethernet([8, 0])].concat()),
        (138, 4, [zeros(16), vec![8, 0]].concat()),
        (143, 4, [vec![1, 5, 0, 0], zeros(7), ethernet([8, 0])].concat()),
        (178, 4, [b"MGC\x80\0\x03".to_vec(), zeros(3), ethernet([8, 0])].concat()),
        (132, 4, [b"MGC\x02".to_vec(), vec![2, 0, 0, 0]].concat()),
        (197, 4, [zeros(8), vec![0x82], zeros(7), zeros(8), zeros(2), ethernet([8, 0])].concat()),
        (226, 4, zeros(24)),
        (228, 4, vec![]),
        (229, 6, vec![]),
        (239, 4, [vec![2, 0, 0, 1], vec![5, 0, 10, 0, 9, 0, 0, 0], vec![24, 0, 9, 0]].concat()),
        (239, 6, [vec![10, 0, 0, 1], vec![0, 8, 0, 1, 0, 0, 0, 0], vec![0, 44, 0, 9]].concat()),
        (240, 4, [zeros(4), ethernet([8, 0])].concat()),
        (242, 4, [zeros(40), vec![8, 0, 0, 0]].concat()),
        (258, 4, [vec![16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], zeros(4), vec![2, 0, 0, 0]].concat()),
        (284, 4, [zeros(12), vec![0xc0, 0, 0, 0], vec![8, 0]].concat()),
        (285, 6, [zeros(12), vec![0xda, 0xda, 0, 0, 0xc0, 0, 0, 0], vec![0x86, 0xdd]].concat()),
        (281, 4, [zeros(16), vec![8, 0]].concat()),
        (282, 4, [zeros(4), ethernet([8, 0])].concat()),
    ]
}

/// What may lie between an Ethernet header and the IP header. The bytes are of frames that Wireshark 4.0 follows.
fn between() -> Vec<(u8, Vec<u8>)> {
    let inner = |kind: [u8; 2]| [vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], kind.to_vec()].concat();
    // Bottom of stack.
    let label = [0x88, 0x47, 0, 6, 0x41, 0x40];
    let nsh = |next: u8| vec![0x89, 0x4f, 0x0f, 0xc2, 2, next, 0, 0, 1, 0xff];
    let macsec = |control: u8, len: usize| [vec![0x88, 0xe5, control, 0, 0, 0, 0, 1], zeros(len)].concat();
    vec![
        (4, [&[0x81, 0, 0, 1].repeat(20)[..], &[8, 0]].concat()),
        (6, vec![0x88, 0xa8, 0, 1, 0x91, 0, 0, 2, 0x86, 0xdd]),
        (4, [&label[..2], &[0, 6, 0x40, 0x40].repeat(10), &label[2..]].concat()),
        (4, [&label[..], &[0, 0, 0, 7], &inner([8, 0])].concat()),
        (6, [&label[..], &inner([0x86, 0xdd])].concat()),
        (4, [&label[..], &[0x10, 0, 0, 0x21]].concat()),
        (4, vec![0x88, 0x64, 0x11, 0, 0, 1, 0, 22, 0, 0x21]),
        (4, vec![0x88, 0x64, 0x11, 0, 0, 1, 0, 21, 0x21]),
        (4, [vec![0x88, 0xe7, 0, 0, 0, 1], inner([8, 0])].concat()),
        (4, [vec![0x89, 3, 0, 0x20], inner([8, 0])].concat()),
        (4, [vec![0x22, 0xf3, 0, 0x3f, 0, 1, 0, 2], inner([8, 0])].concat()),
        (4, [vec![0x22, 0xf3, 0, 0x7f, 0, 1, 0, 2, 0, 0, 0, 0], inner([8, 0])].concat()),
        (4, nsh(1)),
        (6, nsh(2)),
        (4, [nsh(3), inner([8, 0])].concat()),
        (4, [&nsh(5), &label[2..]].concat()),
        (4, vec![0x89, 9, 1, 1, 0, 1, 0, 0x64, 8, 0]),
        (4, [vec![0xd2, 0x8b, 0, 1, 1, 0x10], zeros(8), vec![8, 0]].concat()),
        (6, [vec![0xd2, 0x8b, 0, 1, 0, 0x20], zeros(6), vec![0x86, 0xdd]].concat()),
        (4, vec![0x89, 0x2f, 0, 0x34, 0, 1, 8, 0]),
        (4, vec![0xf1, 0xc1, 0, 0, 0, 1, 8, 0]),
        (4, [vec![0x65, 0x58], inner([8, 0])].concat()),
        (4, [macsec(0, 0), vec![8, 0]].concat()),
        (4, [macsec(0x20, 8), vec![8, 0]].concat()),
        (4, [vec![0x43, 5, 0x40, 15, 0x32, 0, 2, 0, 0, 0, 0, 3], inner([8, 0])].concat()),
        (4, vec![0x89, 0x26, 0, 0, 0, 0, 8, 0]),
        (4, vec![0x89, 0x3f, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 1, 8, 0]),
        (4, vec![0, 0x24, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]),
        (4, vec![0, 0x24, 0xaa, 0xaa, 3, 0, 0, 0xf8, 8, 0]),
        (4, [vec![0, 0x50, 0xaa, 0xaa, 3, 0, 0x80, 0xc2, 0, 7, 0, 0], inner([8, 0])].concat()),
        (4, vec![0, 0x1f, 6, 6, 3]),
        (6, vec![0, 0x1f, 0xfe, 0xfe, 3, 0x8e]),
    ]
}

#[test]
fn every_framing_leads_to_its_ip_header() {
    let ethernet = between().into_iter().map(|(family, head)| (1, family, [zeros(12), head].concat()));
    for (linktype, family, head) in framings().into_iter().chain(ethernet) {
        let frame = [head.clone(), packet(family)].concat();
        let parsed =
            parse(linktype, &frame).unwrap_or_else(|reason| panic!("{linktype} {head:02x?}: {reason:?}"));
        assert_eq!((parsed.family, parsed.l3 as usize), (family, head.len()), "{linktype} {head:02x?}");
        assert_eq!((parsed.src[15], parsed.dst[15]), (1, 2), "{linktype} {head:02x?}");
        // Cut anywhere before the end of the IP header, there is no flow.
        for len in 0..frame.len() {
            assert!(parse(linktype, &frame[..len]).is_err(), "{linktype} {head:02x?} cut to {len}");
        }
    }
}

#[test]
fn what_carries_no_ip_says_so() {
    let protected = [vec![8, 0x41], zeros(60)].concat();
    let null_data = [vec![0x48, 1], zeros(60)].concat();
    let mut fragment = [vec![8, 1], zeros(60)].concat();
    fragment[22] = 1;
    for frame in [protected, null_data, fragment, zeros(60)] {
        assert_eq!(parse(105, &frame), Err(Reason::NonIp));
    }
    assert_eq!(parse(144, &zeros(60)), Err(Reason::NonIp));
    let encrypted = [zeros(12), vec![0x88, 0xe5, 0x2c], zeros(60)].concat();
    assert_eq!(parse(1, &encrypted), Err(Reason::NonIp));
    let tags = [zeros(12), [0x81, 0, 0, 1].repeat(40), packet(4)].concat();
    assert_eq!(parse(1, &tags), Err(Reason::LinkDepth));
    assert_eq!(parse(7, &[1, 2, 212, 2, 0, 1, 0x45]), Err(Reason::NonIp));
    assert_eq!(parse(999, &zeros(60)), Err(Reason::LinkType));
    assert_eq!(parse(-1, &zeros(60)), Err(Reason::LinkType));
}

#[test]
fn nesting_ends() {
    let nested = [8, 0, 0, 0, 192, 0, 0, 0].map(u8::from);
    let nested = [vec![0, 0, nested[0], 0], nested[4..].to_vec()].concat();
    assert_eq!(parse(192, &nested.repeat(100)), Err(Reason::LinkDepth));
}

/// Any bytes under any link type end in a result.
#[test]
fn noise_is_survived() {
    use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
    let mut random = SmallRng::seed_from_u64(7);
    for _ in 0..200 {
        let len = random.random_range(0..200);
        let frame: Vec<u8> = (0..len).map(|_| random.random()).collect();
        for linktype in 0..300 {
            if let Ok(parsed) = parse(linktype, &frame) {
                assert!(parsed.l3 as usize + 20 <= frame.len());
            }
        }
    }
}
