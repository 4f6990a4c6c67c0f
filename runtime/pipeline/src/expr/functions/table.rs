//! Every function by group, as its signature: `text` before the dot is what it is called on, what stands in brackets may be
//! left out, `…` is any number.

/// A group's name and its signatures.
pub const GROUPS: [(&str, &[&str]); 13] = [
    (
        "any",
        &[
            "has(value.field)",
            "size(value)",
            "value.size()",
            "type(value)",
            "dyn(value)",
            "min(value, …)",
            "max(value, …)",
            "cel.bind(name, value, expression)",
        ],
    ),
    ("conversions", &["string(value)", "int(value)", "uint(value)", "double(number)", "bool(value)", "bytes(text)"]),
    (
        "text",
        &[
            "text.contains(part)",
            "text.startsWith(part)",
            "text.endsWith(part)",
            "text.lowerAscii()",
            "text.upperAscii()",
            "text.trim()",
            "text.split(separator[, count])",
            "list.join([separator])",
            "text.replace(part, new[, count])",
            "text.substring(start[, end])",
            "text.indexOf(part[, start])",
            "text.lastIndexOf(part[, start])",
            "text.charAt(index)",
            "text.reverse()",
            "text.format(list)",
            "strings.quote(text)",
        ],
    ),
    (
        "patterns",
        &[
            "text.matches('pattern')",
            "matches(text, 'pattern')",
            "regex.extract(text, 'pattern')",
            "regex.extractAll(text, 'pattern')",
            "regex.replace(text, 'pattern', new[, count])",
        ],
    ),
    (
        "numbers",
        &[
            "div(number, number)",
            "math.greatest(number, …)",
            "math.least(number, …)",
            "math.ceil(number)",
            "math.floor(number)",
            "math.round(number)",
            "math.trunc(number)",
            "math.abs(number)",
            "math.sign(number)",
            "math.sqrt(number)",
            "math.isNaN(number)",
            "math.isInf(number)",
            "math.isFinite(number)",
            "math.bitAnd(int, int)",
            "math.bitOr(int, int)",
            "math.bitXor(int, int)",
            "math.bitNot(int)",
            "math.bitShiftLeft(int, bits)",
            "math.bitShiftRight(int, bits)",
        ],
    ),
    (
        "lists and maps",
        &[
            "list.all(name, condition)",
            "list.exists(name, condition)",
            "list.exists_one(name, condition)",
            "list.existsOne(name, condition)",
            "list.map(name, [condition, ]expression)",
            "list.filter(name, condition)",
            "list.transformList(index, name, [condition, ]expression)",
            "map.transformMap(key, name, [condition, ]expression)",
            "list.slice(start, end)",
            "list.flatten([depth])",
            "list.distinct()",
            "list.reverse()",
            "list.sort()",
            "list.sortBy(name, expression)",
            "list.first()",
            "list.last()",
            "lists.range(count)",
            "sets.contains(list, list)",
            "sets.intersects(list, list)",
            "sets.equivalent(list, list)",
        ],
    ),
    (
        "what may be absent",
        &[
            "optional.of(value)",
            "optional.none()",
            "optional.ofNonZeroValue(value)",
            "optional.hasValue()",
            "optional.value()",
            "optional.orValue(value)",
            "optional.or(optional)",
            "optional.optMap(name, expression)",
            "optional.optFlatMap(name, expression)",
        ],
    ),
    (
        "time",
        &[
            "timestamp(text or seconds)",
            "duration(text)",
            "from_millis(int)",
            "to_millis(time)",
            "format_time(time, format[, zone])",
            "parse_time(text, format[, zone])",
            "truncate_time(time, duration)",
            "time.getFullYear([zone])",
            "time.getMonth([zone])",
            "time.getDate([zone])",
            "time.getDayOfMonth([zone])",
            "time.getDayOfWeek([zone])",
            "time.getDayOfYear([zone])",
            "time.getHours([zone])",
            "time.getMinutes([zone])",
            "time.getSeconds([zone])",
            "time.getMilliseconds([zone])",
        ],
    ),
    (
        "hashes",
        &[
            "sha256(text or bytes)",
            "sha512(text or bytes)",
            "sha1(text or bytes)",
            "md5(text or bytes)",
            "hmac_sha256(key, text or bytes)",
            "xxhash64(text or bytes[, seed])",
            "uuid5(namespace, name)",
        ],
    ),
    (
        "encodings",
        &[
            "base64.encode(text or bytes)",
            "base64.decode(text)",
            "hex.encode(text or bytes)",
            "hex.decode(text)",
            "json.parse(text)",
            "json.print(value)",
        ],
    ),
    ("addresses of the web", &["url.parse(text)", "url.encode(text)", "url.decode(text)"]),
    (
        "addresses of hosts",
        &[
            "ip(text)",
            "isIP(text)",
            "ip.isCanonical(text)",
            "ip.family()",
            "ip.isPrivate()",
            "ip.isLoopback()",
            "ip.isUnspecified()",
            "ip.isLinkLocalUnicast()",
            "ip.isLinkLocalMulticast()",
            "ip.isGlobalUnicast()",
            "ip.mask(bits)",
        ],
    ),
    (
        "networks",
        &[
            "cidr(text)",
            "isCIDR(text)",
            "cidr.containsIP(ip or text)",
            "cidr.containsCIDR(cidr or text)",
            "cidr.ip()",
            "cidr.masked()",
            "cidr.prefixLength()",
        ],
    ),
];

/// Names of other languages and libraries, with the ones they have here.
const OTHERS: [(&str, &str); 31] = [
    ("lower", "lowerAscii"),
    ("toLower", "lowerAscii"),
    ("toLowerCase", "lowerAscii"),
    ("lowercase", "lowerAscii"),
    ("downcase", "lowerAscii"),
    ("upper", "upperAscii"),
    ("toUpper", "upperAscii"),
    ("toUpperCase", "upperAscii"),
    ("uppercase", "upperAscii"),
    ("upcase", "upperAscii"),
    ("length", "size"),
    ("len", "size"),
    ("count", "size"),
    ("includes", "contains"),
    ("strip", "trim"),
    ("substr", "substring"),
    ("concat", "join"),
    ("any", "exists"),
    ("every", "all"),
    ("some", "exists"),
    ("unique", "distinct"),
    ("sorted", "sort"),
    ("replaceAll", "replace"),
    ("str", "string"),
    ("float", "double"),
    ("strftime", "format_time"),
    ("strptime", "parse_time"),
    ("parse_json", "json.parse"),
    ("to_json", "json.print"),
    ("round", "math.round"),
    ("abs", "math.abs"),
];

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::expr) enum Form {
    Global,
    /// After a dot.
    Member,
}

/// A row of the table, taken apart.
#[derive(Clone, Copy, Debug)]
pub(in crate::expr) struct Signature {
    /// With its namespace.
    pub(in crate::expr) name: &'static str,
    pub(in crate::expr) form: Form,
    /// Arguments, the one before the dot not counted.
    pub(in crate::expr) least: usize,
    pub(in crate::expr) most: usize,
    pub(in crate::expr) shown: &'static str,
}

/// Names that stand before a dot in place of a value.
const VALUES: [&str; 9] = ["text", "list", "map", "optional", "time", "ip", "cidr", "value", "number"];
/// Of those, what is a namespace in these calls.
const NAMESPACED: [&str; 4] = ["optional.of", "optional.none", "optional.ofNonZeroValue", "ip.isCanonical"];

impl Signature {
    fn of(shown: &'static str) -> Signature {
        let (head, rest) = shown.split_once('(').expect("a signature has parentheses");
        let (form, name) = match head.split_once('.') {
            Some((target, name)) if VALUES.contains(&target) && !NAMESPACED.contains(&head) => (Form::Member, name),
            _ => (Form::Global, head),
        };
        let arguments = rest.strip_suffix(')').expect("a signature ends with its parentheses");
        let optional = arguments
            .find('[')
            .map_or("", |from| &arguments[from..arguments.find(']').expect("a bracket is closed") + 1]);
        let count = |text: &str| if text.trim().is_empty() { 0 } else { text.matches(',').count() + 1 };
        // `f([a])` has one that may be left out, and so have `f(a[, b])` and `f(a, [b, ]c)`.
        let most = count(arguments);
        let least = most - usize::from(!optional.is_empty());
        let any = arguments.contains('…');
        Signature { name, form, least: least - usize::from(any), most: if any { usize::MAX } else { most }, shown }
    }
}

pub(in crate::expr) fn all() -> impl Iterator<Item = Signature> {
    GROUPS.into_iter().flat_map(|(_, signatures)| signatures.iter().map(|shown| Signature::of(shown)))
}

/// All signatures of a name.
pub(in crate::expr) fn named(name: &str) -> impl Iterator<Item = Signature> + use<'_> {
    all().filter(move |signature| signature.name == name)
}

/// The name that one of another language has here.
pub(in crate::expr) fn other_name(name: &str) -> Option<&'static str> {
    OTHERS.iter().find(|(other, _)| *other == name).map(|(_, here)| *here)
}

/// As [`other_name`], for a name that is nearly one.
pub(in crate::expr) fn other_near(name: &str) -> Option<&'static str> {
    other_name(crate::diagnostic::nearest(name, OTHERS.iter().map(|(other, _)| *other))?)
}

/// What there is, a line for each group.
pub(in crate::expr) fn groups() -> String {
    let line = |(group, signatures): (&str, &[&'static str])| {
        let mut names: Vec<&str> = signatures.iter().map(|shown| Signature::of(shown).name).collect();
        names.dedup();
        format!("{group}: {}", names.join(", "))
    };
    GROUPS.map(line).join("\n")
}
