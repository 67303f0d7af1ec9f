//! Types written as in C.

use super::raw::{self, Kind, Record};
use super::{Btf, MAX_DEPTH};

/// A rendered type longer than this is cut with "...". Real ones have up to some 100 characters; a
/// damaged blob could nest function pointers for ever.
const MAX_LEN: usize = 300;

impl Btf {
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
            Kind::Ptr => self.render_pointer(record, depth, out),
            Kind::Const => self.render_qualified("const", record, depth, out),
            Kind::Volatile => self.render_qualified("volatile", record, depth, out),
            Kind::Restrict | Kind::TypeTag => self.render(record.size_or_type, depth, out),
            Kind::Array => self.render_array(record, depth, out),
            Kind::FuncProto => self.render_proto(record, "", depth, out),
            Kind::Struct => self.render_tagged("struct", record, out),
            Kind::Union => self.render_tagged("union", record, out),
            Kind::Enum | Kind::Enum64 => self.render_tagged("enum", record, out),
            Kind::Fwd if record.kind_flag => self.render_tagged("union", record, out),
            Kind::Fwd => self.render_tagged("struct", record, out),
            _ => out.push_str(self.string(record.name_off)),
        }
    }

    fn render_tagged(&self, tag: &str, record: Record, out: &mut String) {
        out.push_str(tag);
        let name = self.string(record.name_off);
        if !name.is_empty() {
            out.push(' ');
            out.push_str(name);
        }
    }

    fn render_pointer(&self, record: Record, depth: u32, out: &mut String) {
        if let Some(target) = self.record(record.size_or_type)
            && target.kind == Kind::FuncProto
        {
            return self.render_proto(target, "(*)", depth, out);
        }
        self.render(record.size_or_type, depth, out);
        out.push_str(if out.ends_with('*') { "*" } else { " *" });
    }

    fn render_qualified(&self, word: &str, record: Record, depth: u32, out: &mut String) {
        let inner = self.record(record.size_or_type);
        if inner.is_some_and(|inner| inner.kind == Kind::Ptr) {
            self.render(record.size_or_type, depth, out);
            out.push_str(word);
            return;
        }
        out.push_str(word);
        out.push(' ');
        self.render(record.size_or_type, depth, out);
    }

    fn render_array(&self, record: Record, depth: u32, out: &mut String) {
        let Some((element, count)) = raw::array(&self.bytes, record) else {
            return;
        };
        self.render(element, depth, out);
        out.push_str(&format!("[{count}]"));
    }

    fn render_proto(&self, proto: Record, declarator: &str, depth: u32, out: &mut String) {
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
