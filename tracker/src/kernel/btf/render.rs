//! Types written as in C.

use super::raw::{self, BtfKind, BtfRecord};
use super::{KernelBtf, MAX_DEPTH};

/// A type that is longer than this is cut with "...". Real ones have up to some 100 characters; in
/// damaged bytes, function pointers could nest without end.
const MAX_LEN: usize = 300;

impl KernelBtf {
    /// The type as C writes it: `struct vm_fault *`, `const char *`, `int (*)(void *)`.
    pub(super) fn type_name(&self, id: u32) -> String {
        let mut text = String::new();
        self.render(id, MAX_DEPTH, &mut text);
        if text.len() > MAX_LEN {
            let end = text.floor_char_boundary(MAX_LEN);
            text.truncate(end);
            text.push_str("...");
        }
        text
    }

    fn render(&self, id: u32, depth: u32, out: &mut String) {
        let Some(depth) = depth.checked_sub(1).filter(|_| out.len() <= MAX_LEN) else {
            out.push_str("...");
            return;
        };
        let Some(record) = self.record(id) else {
            out.push_str(if id == 0 { "void" } else { "?" });
            return;
        };
        match record.kind {
            BtfKind::Ptr => self.render_pointer(record, depth, out),
            BtfKind::Const => self.render_qualified("const", record, depth, out),
            BtfKind::Volatile => self.render_qualified("volatile", record, depth, out),
            BtfKind::Restrict | BtfKind::TypeTag => self.render(record.size_or_type, depth, out),
            BtfKind::Array => self.render_array(record, depth, out),
            BtfKind::FuncProto => self.render_proto(record, "", depth, out),
            BtfKind::Struct => self.render_tagged("struct", record, out),
            BtfKind::Union => self.render_tagged("union", record, out),
            BtfKind::Enum | BtfKind::Enum64 => self.render_tagged("enum", record, out),
            BtfKind::Fwd if record.kind_flag => self.render_tagged("union", record, out),
            BtfKind::Fwd => self.render_tagged("struct", record, out),
            _ => out.push_str(self.string(record.name_off)),
        }
    }

    fn render_tagged(&self, tag: &str, record: BtfRecord, out: &mut String) {
        out.push_str(tag);
        let name = self.string(record.name_off);
        if !name.is_empty() {
            out.push(' ');
            out.push_str(name);
        }
    }

    fn render_pointer(&self, record: BtfRecord, depth: u32, out: &mut String) {
        if let Some(target) = self.record(record.size_or_type)
            && target.kind == BtfKind::FuncProto
        {
            return self.render_proto(target, "(*)", depth, out);
        }
        self.render(record.size_or_type, depth, out);
        out.push_str(if out.ends_with('*') { "*" } else { " *" });
    }

    fn render_qualified(&self, word: &str, record: BtfRecord, depth: u32, out: &mut String) {
        let inner = self.record(record.size_or_type);
        if inner.is_some_and(|inner| inner.kind == BtfKind::Ptr) {
            self.render(record.size_or_type, depth, out);
            out.push_str(word);
            return;
        }
        out.push_str(word);
        out.push(' ');
        self.render(record.size_or_type, depth, out);
    }

    fn render_array(&self, record: BtfRecord, depth: u32, out: &mut String) {
        let Some((element, count)) = raw::array(&self.bytes, record) else {
            return;
        };
        self.render(element, depth, out);
        out.push_str(&format!("[{count}]"));
    }

    fn render_proto(&self, proto: BtfRecord, declarator: &str, depth: u32, out: &mut String) {
        self.render(proto.size_or_type, depth, out);
        out.push(' ');
        out.push_str(declarator);
        out.push('(');
        for (index, (name_off, type_id)) in raw::params(&self.bytes, proto).enumerate() {
            if out.len() > MAX_LEN {
                break;
            }
            if index > 0 {
                out.push_str(", ");
            }
            if type_id == 0 && name_off == 0 {
                out.push_str("...");
            } else {
                self.render(type_id, depth, out);
            }
        }
        out.push(')');
    }
}
