use super::*;

/// A UDP packet from 192.0.2.`host`, as raw IPv4.
fn udp(host: u8) -> Vec<u8> {
    let mut frame = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, host, 198, 51, 100, 1];
    frame.extend([0, 53, 0, 54, 0, 8, 0, 0]);
    frame
}

fn packet(frame: &[u8], ns: u64) -> Packet<'_> {
    Packet {
        linktype: 101,
        ifindex: 3,
        direction: Direction::Egress,
        time: Timestamp(ns),
        frame,
        wire_len: u32::MAX,
        mtu: None,
    }
}

#[test]
fn a_full_table_keeps_its_flows_and_counts_the_others_apart() {
    let mut counter = Counter::new(Some(2));
    for (ns, host) in [(7, 1), (5, 2), (6, 3), (9, 1), (8, 4), (4, 1)] {
        counter.count(&packet(&udp(host), ns));
    }
    counter.count(&packet(&[0x50], 1));
    let counts = counter.take();
    assert_eq!(counts.flows.len(), 2);
    assert_eq!(counts.lost.estimate(), 2);
    let first = counts.flows.iter().find(|flow| flow.key.src[15] == 1).expect("first flow stays");
    assert_eq!(
        first.counters,
        FlowCounters {
            packets: 3,
            wire_bytes: 3 * u64::from(u32::MAX),
            ip_bytes: 84,
            first_ns: 4,
            last_ns: 9,
            ..FlowCounters::default()
        }
    );
    assert_eq!((first.key.sport, first.key.dport, first.key.proto, first.key.family), (53, 54, 17, 4));
    let key = |reason, proto| UnaccountedKey { ifindex: 3, direction: 1, reason, proto, pad: 0 };
    let wire_bytes = u64::from(u32::MAX);
    assert_eq!(
        counts.unaccounted,
        BTreeMap::from([
            (key(Reason::TableFull as u8, 17), Amount { packets: 2, wire_bytes: 2 * wire_bytes }),
            (key(Reason::IpVersion as u8, 0), Amount { packets: 1, wire_bytes }),
        ])
    );
    assert!(counter.is_empty());
    counter.count(&packet(&udp(3), 1));
    assert_eq!(counter.take().flows.len(), 1);
}

/// Flows that are new, known and turned away within one batch and across several, against a plain map.
#[test]
fn batches_count_like_one_packet_after_the_other() {
    for limit in [10, 200] {
        let mut counter = Counter::new(Some(limit));
        for rounds in [1, 3 * BATCH as u32 + 5] {
            let mut expected = BTreeMap::<u8, FlowCounters>::new();
            let mut refused = 0;
            for number in 0..rounds * 7 {
                // Each flow several times in a row, and again much later.
                let host = (number / 3 % 101) as u8;
                counter.count(&packet(&udp(host), u64::from(number)));
                let one = FlowCounters {
                    packets: 1,
                    wire_bytes: u64::from(u32::MAX),
                    ip_bytes: 28,
                    first_ns: u64::from(number),
                    last_ns: u64::from(number),
                    ..FlowCounters::default()
                };
                let full = expected.len() == limit as usize;
                match expected.get_mut(&host) {
                    Some(counters) => counters.add(&one),
                    None if full => refused += 1,
                    None => drop(expected.insert(host, one)),
                }
            }
            let counts = counter.take();
            assert_eq!(counts.flows.len(), expected.len());
            let found: BTreeMap<_, _> =
                counts.flows.iter().map(|flow| (flow.key.src[15], flow.counters)).collect();
            assert_eq!(found, expected);
            assert_eq!(counts.unaccounted.values().map(|amount| amount.packets).sum::<u64>(), refused);
            assert!(counter.is_empty());
        }
    }
}

#[test]
fn what_is_larger_than_the_mtu_is_estimated() {
    let mut counter = Counter::new(None);
    // 28 bytes of IP each; the bytes stay as seen.
    let frame = udp(1);
    for mtu in [Some(27), Some(28), None, Some(1)] {
        counter.count(&Packet { mtu, wire_len: 28, ..packet(&frame, 1) });
    }
    let counters = counter.take().flows[0].counters;
    assert_eq!((counters.packets, counters.ip_bytes, counters.estimated), (4, 4 * 28, 2));
}

/// In a flow, in none for want of room, filtered: of each two merged packets of 28 bytes and a plain one.
#[test]
fn what_is_estimated_is_summed_whatever_becomes_of_it() {
    let mut counter = Counter::new(Some(1));
    for (ifindex, mtu) in [(3, Some(27)), (3, Some(28)), (4, Some(27)), (3, Some(1))] {
        let [here, full] = [udp(1), udp(2)];
        let packet = |frame| Packet { mtu, ifindex, wire_len: 28, ..packet(frame, 1) };
        counter.count(&packet(&here));
        counter.count(&packet(&full));
        counter.count_without_flow(&packet(&here), Reason::Filtered);
    }
    let counts = counter.take();
    assert_eq!(counts.flows.len(), 1);
    let places: Vec<_> = counts.passed.into_iter().map(|(place, passed)| (place, passed.estimated)).collect();
    let amount = |packets| Amount { packets, wire_bytes: packets * 28 };
    assert_eq!(places, [((3, 1), amount(6)), ((4, 1), amount(3))]);
    counter.count(&packet(&udp(1), 1));
    assert_eq!(counter.take().passed[&(3, 1)].estimated, Amount::default());
}

#[test]
fn the_first_frame_of_a_merged_packet_is_a_full_one() {
    // 28 bytes of IP behind 14 of Ethernet, and padding that is no reason to think of merging.
    let mut frame = vec![0; 12];
    frame.extend([8, 0]);
    frame.extend(udp(1));
    let len = |mtu, wire_len| Packet { linktype: 1, mtu, wire_len, ..packet(&frame, 1) }.first_frame_len();
    assert_eq!([len(Some(20), 42), len(Some(28), 42), len(None, 42)], [34, 42, 42]);
    assert_eq!([len(Some(28), 60), len(Some(28), u32::MAX)], [60, u32::MAX]);
}
