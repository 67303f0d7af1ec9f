//! Where rounds go: a table for people, JSON, a recording.

use std::io::Write;

use pages::track::{TrackHeader, TrackRound, TrackSummary, WorkingSet};

use super::table::LiveTable;
use crate::cli::output::{
    CommandOutputs, OutputEntry, RoundSink, SinkMaker, SinkOut, SinkState, print_rounds,
};
use crate::print::format;
use crate::track::json;
use crate::track::recording::RecordingWriter;

/// What `tracker track` can show.
pub(crate) struct TrackOutputs;

impl CommandOutputs for TrackOutputs {
    type OutputMaker = SinkMaker;

    const OUTPUTS: &'static [OutputEntry<SinkMaker>] = &[
        OutputEntry {
            format: &format::TEXT,
            help: "",
            make: TableSink::begin,
        },
        OutputEntry {
            format: &format::JSON,
            help: "Print one JSON object a line: a header, the rounds, a summary",
            make: JsonSink::begin,
        },
        OutputEntry {
            format: &format::RECORDING,
            help: "Record to this file, for `tracker report`; it must not exist",
            make: RecordingSink::begin,
        },
    ];
}

struct TableSink {
    sink: SinkOut,
    table: LiveTable,
}

impl TableSink {
    fn begin(
        mut sink: SinkOut,
        header: &TrackHeader,
        first: &TrackRound,
    ) -> anyhow::Result<Box<dyn RoundSink>> {
        let table = LiveTable::new(sink.is_terminal);
        print_rounds(&mut *sink.out, &table.begin(header, first))?;
        Ok(Box::new(Self { sink, table }))
    }
}

impl RoundSink for TableSink {
    fn round(&mut self, round: &TrackRound, set: &WorkingSet) -> anyhow::Result<SinkState> {
        print_rounds(&mut *self.sink.out, &self.table.round(round, set))
    }

    fn end(mut self: Box<Self>, summary: &TrackSummary) -> anyhow::Result<()> {
        let text = self.table.end(summary, &self.sink.files);
        print_rounds(&mut *self.sink.out, &text).map(drop)
    }
}

struct JsonSink(Box<dyn Write>);

impl JsonSink {
    fn begin(
        sink: SinkOut,
        header: &TrackHeader,
        first: &TrackRound,
    ) -> anyhow::Result<Box<dyn RoundSink>> {
        let mut out = sink.out;
        let text = json::header(header)? + &json::round(first)?;
        print_rounds(&mut *out, &text)?;
        Ok(Box::new(Self(out)))
    }
}

impl RoundSink for JsonSink {
    fn round(&mut self, round: &TrackRound, _: &WorkingSet) -> anyhow::Result<SinkState> {
        print_rounds(&mut *self.0, &json::round(round)?)
    }

    fn end(mut self: Box<Self>, summary: &TrackSummary) -> anyhow::Result<()> {
        print_rounds(&mut *self.0, &json::summary(summary)?).map(drop)
    }
}

struct RecordingSink(RecordingWriter<Box<dyn Write>>);

impl RecordingSink {
    fn begin(
        sink: SinkOut,
        header: &TrackHeader,
        first: &TrackRound,
    ) -> anyhow::Result<Box<dyn RoundSink>> {
        let mut writer = RecordingWriter::new(sink.out, header)?;
        writer.round(first)?;
        Ok(Box::new(Self(writer)))
    }
}

impl RoundSink for RecordingSink {
    fn round(&mut self, round: &TrackRound, _: &WorkingSet) -> anyhow::Result<SinkState> {
        self.0.round(round)?;
        Ok(SinkState::Open)
    }

    fn end(self: Box<Self>, summary: &TrackSummary) -> anyhow::Result<()> {
        self.0.finish(summary)?;
        Ok(())
    }
}
