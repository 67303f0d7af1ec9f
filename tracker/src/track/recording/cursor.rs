//! Reading a frame bit by bit: what a frame holds becomes memory only as far as the budget goes.

use serde::Deserialize;

use super::FrameDamage;
use super::budget::OverBudget;

/// Why a frame is not read.
#[derive(Debug)]
pub(super) enum FrameError {
    Damage(FrameDamage),
    Memory(OverBudget),
}

impl From<FrameDamage> for FrameError {
    fn from(damage: FrameDamage) -> Self {
        Self::Damage(damage)
    }
}

impl From<OverBudget> for FrameError {
    fn from(over: OverBudget) -> Self {
        Self::Memory(over)
    }
}

/// What of a frame was not read yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameCursor<'a>(&'a [u8]);

impl<'a> FrameCursor<'a> {
    pub(super) fn new(plain: &'a [u8]) -> Self {
        Self(plain)
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    /// The next value.
    pub(super) fn take<T: Deserialize<'a>>(&mut self) -> Result<T, FrameDamage> {
        let (value, rest) = postcard::take_from_bytes(self.0).map_err(FrameDamage::Decode)?;
        self.0 = rest;
        Ok(value)
    }

    /// How many elements a list has, each of at least one byte.
    pub(super) fn count(&mut self) -> Result<usize, FrameDamage> {
        let end = FrameDamage::Decode(postcard::Error::DeserializeUnexpectedEnd);
        let count = usize::try_from(self.take::<u64>()?);
        count.ok().filter(|count| *count <= self.left()).ok_or(end)
    }

    /// Passes over so many numbers, and returns a cursor at the first.
    pub(super) fn skip(&mut self, numbers: usize) -> Result<Self, FrameDamage> {
        let first = *self;
        if let Some(last) = numbers.checked_sub(1) {
            let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte < 0x80);
            let end = FrameDamage::Decode(postcard::Error::DeserializeUnexpectedEnd);
            let (at, _) = { ends }.nth(last).ok_or(end)?;
            self.0 = self.0.get(at + 1..).unwrap_or_default();
        }
        Ok(first)
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), FrameDamage> {
        match self.0 {
            [] => Ok(()),
            _ => Err(FrameDamage::Rest),
        }
    }
}
