//! The built object: what each of its programs needs to know of the kernel, read from its own
//! instructions, and the constants of the running kernel written into them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use object::read::{ObjectSymbol as _, Relocation};
use object::{File, Object as _, ObjectSection as _, RelocationTarget, SectionKind, SymbolKind};
use thiserror::Error;
use tracker_ebpf::{KernelField, KernelValue};

use super::marks::{self, INSTRUCTION, LOAD_CONSTANT, OutOfReach, ProgramMark};

/// The programs, built by build.rs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracker-ebpf"));

/// `BPF_JMP | BPF_CALL`, and the source register that makes it a call of a function of the object.
const CALL: u8 = 0x85;
const PSEUDO_CALL: u8 = 1;

/// What a program needs to know of the kernel, itself or in a function that it calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramReads {
    /// Fields that it reads.
    pub fields: BTreeSet<KernelField>,
    /// Values that it uses.
    pub values: BTreeSet<KernelValue>,
}

/// What is wrong with an object.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// It cannot be read.
    #[error("the BPF object is no ELF file: {0}")]
    NoElf(#[from] object::Error),
    /// A section reaches beyond its end.
    #[error("the BPF object ends within its code")]
    CutOff,
    /// A program calls what is no function.
    #[error("the BPF object has no function at {:#x} of section {}, which is called", .0.1, .0.0)]
    NoFunction(FunctionPlace),
    /// A field cannot be written into it.
    #[error(transparent)]
    OutOfReach(#[from] OutOfReach),
}

/// An object, and what its programs read.
#[derive(Clone, Debug)]
pub struct ProbeObject {
    bytes: Cow<'static, [u8]>,
    code: Vec<Range<usize>>,
    reads: BTreeMap<String, ProgramReads>,
}

impl ProbeObject {
    /// Reads an object.
    ///
    /// # Errors
    /// If it is no ELF file, or is cut off.
    pub fn parse(bytes: Cow<'static, [u8]>) -> Result<Self, ObjectError> {
        let file = File::parse(&*bytes)?;
        let code = file.sections().filter(is_code).filter_map(|section| {
            let (start, size) = section.file_range()?;
            Some((usize::try_from(start).ok()?, usize::try_from(size).ok()?))
        });
        let code = code.map(|(start, size)| start..start + size).collect();
        let reads = ObjectFunctions::of(&file)?.programs()?;
        Ok(Self { bytes, code, reads })
    }

    /// What a program reads; `None` if there is no such program.
    #[must_use]
    pub fn reads(&self, program: &str) -> Option<&ProgramReads> {
        self.reads.get(program)
    }

    /// The names of all programs.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.reads.keys().map(String::as_str)
    }

    /// The object with the offset of each field and each value written into its instructions.
    ///
    /// # Errors
    /// If a field lies further in its struct than a load can reach.
    pub fn patched(
        &self,
        offset: impl Fn(KernelField) -> u32,
        value: impl Fn(KernelValue) -> u64,
    ) -> Result<Vec<u8>, ObjectError> {
        let mut patched = self.bytes.to_vec();
        for range in &self.code {
            let code = patched.get_mut(range.clone()).ok_or(ObjectError::CutOff)?;
            marks::write(code, &offset, &value)?;
        }
        Ok(patched)
    }
}

fn is_code<'data>(section: &impl object::ObjectSection<'data>) -> bool {
    section.kind() == SectionKind::Text
}

/// Where a function begins: its section, by number, and its address there.
type FunctionPlace = (usize, u64);

/// The functions of an object, programs among them.
struct ObjectFunctions<'a>(BTreeMap<FunctionPlace, ObjectFunction<'a>>);

struct ObjectFunction<'a> {
    name: &'a str,
    /// Whether it lies in a section of its own kind: the others are what programs call.
    is_program: bool,
    reads: ProgramReads,
    calls: BTreeSet<FunctionPlace>,
}

impl<'a> ObjectFunctions<'a> {
    fn of(file: &File<'a>) -> Result<Self, ObjectError> {
        let mut all = BTreeMap::new();
        for section in file.sections().filter(is_code) {
            let (code, called) = (section.data()?, calls(file, &section)?);
            let is_program = section.name()? != ".text";
            for symbol in file.symbols().filter(|symbol| {
                symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(section.index())
            }) {
                let extent = extent(&symbol).ok_or(ObjectError::CutOff)?;
                let inside = called.iter().filter(|(at, _)| extent.contains(at));
                let function = ObjectFunction {
                    name: symbol.name()?,
                    is_program,
                    calls: inside.map(|(_, place)| *place).collect(),
                    reads: reads(code.get(extent.clone()).ok_or(ObjectError::CutOff)?),
                };
                all.insert((section.index().0, symbol.address()), function);
            }
        }
        Ok(Self(all))
    }

    /// Each program with all that it reads.
    fn programs(&self) -> Result<BTreeMap<String, ProgramReads>, ObjectError> {
        let programs = self.0.iter().filter(|(_, function)| function.is_program);
        programs
            .map(|(place, function)| Ok((function.name.to_owned(), self.reads_from(*place)?)))
            .collect()
    }

    /// What a function reads, with those that it calls.
    fn reads_from(&self, start: FunctionPlace) -> Result<ProgramReads, ObjectError> {
        let (mut seen, mut next) = (BTreeSet::from([start]), vec![start]);
        let mut all = ProgramReads::default();
        while let Some(place) = next.pop() {
            let ObjectFunction { reads, calls, .. } =
                self.0.get(&place).ok_or(ObjectError::NoFunction(place))?;
            all.fields.extend(&reads.fields);
            all.values.extend(&reads.values);
            next.extend(calls.iter().filter(|place| seen.insert(**place)));
        }
        Ok(all)
    }
}

/// Where in its section a function lies.
fn extent<'data>(symbol: &impl object::ObjectSymbol<'data>) -> Option<Range<usize>> {
    let end = symbol.address().checked_add(symbol.size())?;
    Some(symbol.address().try_into().ok()?..end.try_into().ok()?)
}

/// The marks in some code.
fn reads(code: &[u8]) -> ProgramReads {
    let mut all = ProgramReads::default();
    for mark in marks::instructions(code).filter_map(|(_, bytes)| marks::mark(bytes)) {
        match mark {
            ProgramMark::Field(field) => all.fields.insert(field),
            ProgramMark::Value(value) => all.values.insert(value),
        };
    }
    all
}

/// Where the code of a section calls or takes the address of functions, for bpf_loop(), and of
/// which.
fn calls<'data>(
    file: &File<'data>,
    section: &impl object::ObjectSection<'data>,
) -> Result<Vec<(usize, FunctionPlace)>, ObjectError> {
    let relocations: BTreeMap<u64, Relocation> = section.relocations().collect();
    let calls = marks::instructions(section.data()?).filter_map(|(at, instruction)| {
        let place = match relocations.get(&(at as u64)) {
            Some(relocation) => relocated(file, relocation, instruction)?,
            None => (section.index().0, beside(instruction, at)?),
        };
        Some((at, place))
    });
    Ok(calls.collect())
}

/// The function that a relocated instruction refers to, if it is no map or data. For the symbol of
/// a section, the instruction itself has where in it.
fn relocated(
    file: &File<'_>,
    relocation: &Relocation,
    instruction: &[u8],
) -> Option<FunctionPlace> {
    let RelocationTarget::Symbol(index) = relocation.target() else {
        return None;
    };
    let symbol = file.symbol_by_index(index).ok()?;
    let section = file.section_by_index(symbol.section_index()?).ok();
    let section = section.filter(is_code)?;
    let address = match symbol.kind() {
        SymbolKind::Section if instruction[0] == LOAD_CONSTANT => marks::constant(instruction)?,
        SymbolKind::Section => called(instruction, 0)?,
        _ => 0,
    };
    Some((section.index().0, symbol.address().checked_add(address)?))
}

/// The target of a call of a function of the same section.
fn beside(instruction: &[u8], at: usize) -> Option<u64> {
    let is_call = instruction[0] == CALL && instruction[1] >> 4 == PSEUDO_CALL;
    is_call.then(|| called(instruction, at))?
}

/// Where a call at `at` goes: instructions after the next one.
fn called(instruction: &[u8], at: usize) -> Option<u64> {
    let bytes: [u8; 4] = instruction.get(4..8)?.try_into().ok()?;
    let distance = (i64::from(i32::from_le_bytes(bytes)) + 1).checked_mul(INSTRUCTION as i64)?;
    u64::try_from(i64::try_from(at).ok()?.checked_add(distance)?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::{OBJECT, ProbeObject};

    proptest! {
        // Few cases: each parses some 2 MB.
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// People try out objects of their own.
        #[test]
        fn damaged_objects_are_refused_or_read(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = OBJECT.to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(object) = ProbeObject::parse(bytes.clone().into()) {
                let _ = object.patched(|_| 8, |_| 1);
            }
            bytes.truncate(cut.index(bytes.len()));
            let _ = ProbeObject::parse(bytes.into());
        }
    }
}
