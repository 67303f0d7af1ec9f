#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::format::{FRAME_HEAD, MAX_FRAME, frame_head};
use super::*;
use crate::track::arbitrary::{any_header, any_rounds, any_summary};
use crate::track::{json, sample};
use pages::track::{TrackHeader, TrackRound, TrackSummary};

/// A recording, and where each of its frames ends.
fn record(
    header: &TrackHeader,
    rounds: &[TrackRound],
    summary: Option<&TrackSummary>,
) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut writer = RecordingWriter::new(&mut bytes, header).unwrap();
    rounds.iter().for_each(|round| writer.round(round).unwrap());
    if let Some(summary) = summary {
        writer.finish(summary).unwrap();
    }
    let mut ends = vec![];
    let mut at = 12;
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        at += FRAME_HEAD + length as usize;
        ends.push(at);
    }
    (bytes, ends)
}

/// What can be read of it: rounds, how it ends, and what went wrong.
fn read(
    bytes: &[u8],
) -> (
    Vec<TrackRound>,
    Option<RecordingEnding>,
    Option<RecordingError>,
) {
    let mut reader = match RecordingReader::new(bytes, MemoryBudget::DEFAULT) {
        Ok(reader) => reader,
        Err(e) => return (vec![], None, Some(e)),
    };
    let mut rounds = vec![];
    let error = loop {
        match reader.next_round() {
            Ok(Some(round)) => rounds.push(round.clone()),
            Ok(None) => break None,
            Err(e) => break Some(e),
        }
    };
    (rounds, reader.ending().cloned(), error)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        header in any_header(), rounds in any_rounds(), summary in option::of(any_summary())
    ) {
        let (bytes, _) = record(&header, &rounds, summary.as_ref());
        let reader = RecordingReader::new(&*bytes, MemoryBudget::DEFAULT).unwrap();
        prop_assert_eq!(reader.header(), &header);
        let (read, ending, error) = read(&bytes);
        prop_assert!(error.is_none());
        prop_assert_eq!(read, rounds);
        let expected = summary.map_or(RecordingEnding::Open, RecordingEnding::Whole);
        prop_assert_eq!(ending, Some(expected));
    }

    #[test]
    fn no_flipped_bit_is_taken_for_data(
        rounds in any_rounds(), place in any::<prop::sample::Index>(), bit in 0..8_u32
    ) {
        let (mut bytes, _) = record(&sample::header("flip"), &rounds, None);
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (read, _, error) = read(&bytes);
        prop_assert!(error.is_some(), "byte {at} of {}", bytes.len());
        prop_assert!(rounds.starts_with(&read));
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in vec(any::<u8>(), 0..400), keep in 0..40_usize) {
        let (good, _) = record(&sample::header("random"), &[], None);
        // On their own, behind a sound header, and as a frame whose checksums hold.
        read(&bytes);
        let keep = keep.min(good.len());
        read(&[&good[..keep], &bytes[..]].concat());
        read(&[&good[..], &bytes[..]].concat());
        let framed = |payload: &[u8]| {
            let head = frame_head(payload, payload.len() as u32);
            [&good[..], &head, payload].concat()
        };
        read(&framed(&bytes));
        if let Some(kind) = bytes.first_mut() {
            *kind %= 5;
        }
        let packed = zstd::bulk::compress(&bytes, 1).unwrap();
        read(&framed(&packed));
    }
}

proptest! {
    // Each cuts at every byte.
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 24, ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_cut_off_anywhere_has_the_rounds_before(
        rounds in any_rounds(), summary in any_summary()
    ) {
        let (bytes, ends) = record(&sample::header("cut"), &rounds, Some(&summary));
        for length in 0..bytes.len() {
            let (read, ending, error) = read(&bytes[..length]);
            let whole = ends.iter().filter(|end| **end <= length).count();
            if whole == 0 {
                let what = error.map(|e| e.to_string()).unwrap_or_default();
                let expected = if length == 0 { "not a recording" } else { "cut off" };
                prop_assert!(what.contains(expected), "{what}");
                continue;
            }
            prop_assert!(error.is_none());
            prop_assert_eq!(&read[..], &rounds[..whole - 1]);
            if ends.contains(&length) {
                prop_assert_eq!(ending, Some(RecordingEnding::Open));
            } else {
                let round = read.last().map_or(0, |r| r.number).saturating_add(1);
                prop_assert_eq!(ending, Some(RecordingEnding::CutOff { round }));
            }
        }
    }
}

#[test]
fn other_files_are_told_apart() {
    let error = |bytes: &[u8]| {
        let opened = RecordingReader::new(bytes, MemoryBudget::DEFAULT);
        opened.err().unwrap().to_string()
    };
    for foreign in [
        &b""[..],
        b"\x7fELF",
        b"uffdwpTX....",
        b"{\"type\":\"header\"}",
    ] {
        assert!(error(foreign).contains("not a recording"), "{foreign:?}");
    }
    assert!(error(b"uffdwpTR\x03\0\0\0").contains("has format 3"));
    assert!(error(b"uffdwpTR\0\0\0\0").contains("has format 0"));
    for known in [1, 2] {
        let bytes = [&b"uffdwpTR"[..], &u32::to_le_bytes(known)].concat();
        assert!(error(&bytes).contains("cut off"), "{known}");
    }
}

/// A recording of format 1 as its writer made it.
#[test]
fn the_first_format_is_read() {
    let bytes = include_bytes!("format-1.uffdwp");
    let reader = RecordingReader::new(&bytes[..], MemoryBudget::DEFAULT).unwrap();
    assert_eq!(reader.header().comm, "sleep");
    let (rounds, ending, error) = read(bytes);
    assert!(error.is_none());
    let numbers: Vec<_> = rounds.iter().map(|round| round.number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    let summary = ending.as_ref().and_then(RecordingEnding::summary).unwrap();
    let unknown: u64 = rounds[0].mappings.iter().map(|row| row.pages.unknown).sum();
    assert_eq!((summary.rounds, summary.unknown_set, unknown), (2, 19, 20));
    assert_eq!(summary.not_looked_at.total(), 0);
}

#[test]
fn a_bomb_is_not_unpacked() {
    let (good, _) = record(&sample::header("bomb"), &[], None);
    let bomb = zstd::bulk::compress(&vec![0; MAX_FRAME + 1], 1).unwrap();
    let framed = [&good[..], &frame_head(&bomb, bomb.len() as u32), &bomb].concat();
    let (_, _, error) = read(&framed);
    assert!(error.unwrap().to_string().contains("more than"));
    // A length that is not there is not made room for.
    let promised = [&good[..], &frame_head(&[], MAX_FRAME as u32)].concat();
    assert_eq!(
        read(&promised).1,
        Some(RecordingEnding::CutOff { round: 1 })
    );
    let absurd = [&good[..], &frame_head(&[], u32::MAX)].concat();
    assert!(
        read(&absurd)
            .2
            .unwrap()
            .to_string()
            .contains("more than a recording has")
    );
}

#[test]
fn a_tail_of_zeroes_is_a_file_cut_off() {
    let rounds = sample::rounds(&sample::database(), 3);
    let (bytes, _) = record(&sample::header("zeroes"), &rounds, None);
    for zeroes in [12, 13, 4096, 10_000] {
        let (read, ending, error) = read(&[&bytes[..], &vec![0; zeroes]].concat());
        assert!(error.is_none() && read == rounds);
        assert_eq!(ending, Some(RecordingEnding::CutOff { round: 4 }));
    }
}

#[test]
fn a_damaged_middle_says_where() {
    let rounds = sample::rounds(&sample::database(), 3);
    let (mut bytes, ends) = record(&sample::header("damage"), &rounds, None);
    bytes[ends[1] + 20] ^= 4;
    let (read, _, error) = read(&bytes);
    assert_eq!(read, &rounds[..1]);
    let expected = format!(
        "damaged at byte {}, after round 1: a frame does not match its checksum",
        ends[1]
    );
    let told = error.unwrap().to_string();
    assert!(told.contains(&expected), "{told}");
}

#[test]
fn nothing_is_written_behind_a_torn_frame() {
    struct FullDisk(usize);
    impl std::io::Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let room = bytes.len().min(self.0);
            self.0 -= room;
            Ok(room)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let rounds = sample::rounds(&sample::database(), 2);
    let mut writer = RecordingWriter::new(FullDisk(600), &sample::header("full")).unwrap();
    assert!(writer.round(&rounds[0]).is_err());
    let error = writer.round(&rounds[1]).unwrap_err().to_string();
    assert!(error.contains("an earlier round"), "{error}");
}

#[test]
fn each_frame_is_one_write() {
    struct CountingWrite(usize);
    impl std::io::Write for &mut CountingWrite {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += 1;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let rounds = sample::rounds(&sample::many(300), 20);
    let mut calls = CountingWrite(0);
    let mut writer = RecordingWriter::new(&mut calls, &sample::header("calls")).unwrap();
    rounds.iter().for_each(|round| writer.round(round).unwrap());
    writer.finish(&sample::summary(&rounds)).unwrap();
    assert_eq!(calls.0, 1 + 20 + 1);
}

/// The numbers of docs/recording.md: `cargo test -p tracker --lib bytes_per_round -- --nocapture`.
#[test]
fn bytes_per_round() {
    let of = |plans: &[sample::MappingPlan], count: u64| {
        let rounds = sample::rounds(plans, count);
        let (bytes, ends) = record(&sample::header("size"), &rounds, None);
        let json: usize = rounds
            .iter()
            .map(|round| json::round(round).unwrap().len())
            .sum();
        (
            (bytes.len() - ends[0]) / count as usize,
            json / count as usize,
        )
    };
    let database = of(&sample::database(), 1000);
    let many = of(&sample::many(300), 1000);
    let idle = |plan| sample::MappingPlan {
        habit: sample::WritingHabit::Idle,
        ..plan
    };
    let idle = of(
        &sample::database().into_iter().map(idle).collect::<Vec<_>>(),
        1000,
    );
    println!("database {database:?}, 300 mappings {many:?}, idle {idle:?}: bytes a round, as JSON");
    assert!(database.0 < 2000 && many.0 < 2000 && idle.0 < 60);
}
