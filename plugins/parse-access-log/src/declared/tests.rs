//! Declared forms: what each directive gives, what is refused, and that nothing shifts.

use super::*;

const TIME: &str = "[17/May/2015:10:05:03 +0200]";
const COMMON: &str = "%h %l %u %t \"%r\" %>s %b";

fn parsed(format: &str, escape: Escape, zone: Option<i64>, line: &str) -> String {
    let form = match Declared::compile(format, escape, zone) {
        Ok(form) => form,
        Err(error) => return error,
    };
    let mut json = Vec::new();
    match form.parse(line).and_then(|line| line.write(&mut json)) {
        Ok(()) => String::from_utf8(json).unwrap(),
        Err(error) => error.to_string(),
    }
}

fn check(format: &str, line: &str, expected: &str) {
    assert_eq!(parsed(format, Escape::Default, None, line), expected, "{format}\n{line}");
}

#[test]
fn each_apache_directive_makes_a_field() {
    check(
        "%a %{c}a %A %{c}h",
        "::1 10.0.0.1 - h",
        r#"{"client_ip":"::1","peer_ip":"10.0.0.1","local_ip":null,"peer_host":"h"}"#,
    );
    check(
        "%B %I %O %S",
        "1 2 3 18446744073709551615",
        r#"{"bytes":1,"bytes_received":2,"bytes_sent":3,"bytes_total":18446744073709551615}"#,
    );
    check(
        "%b",
        "18446744073709551616",
        "bytes (%b): `18446744073709551616` is not a whole number: number too large to fit in target type",
    );
    check("%b", "-", r#"{"bytes":null}"#);
    check("%b", "+5", "the line goes on behind its last column, bytes (%b): `+5`");
    check("%D %T %k", "1200 0 2", r#"{"duration_us":1200,"duration_s":0,"keepalive_requests":2}"#);
    check("%{ms}T|%{us}T|%{s}T", "1|2|-3", r#"{"duration_ms":1,"duration_us":2,"duration_s":-3}"#);
    check("%{min}T", "1", "format: character 1, at `%{min}T`: `%{min}T`: expected `s`, `ms` or `us`");
    check("%f", "/srv/a b\\\"", r#"{"filename":"/srv/a b\""}"#);
    check("%m %U%q %H", "GET /a b?c=d HTTP/1.1", r#"{"method":"GET","path":"/a b?c=d","protocol":"HTTP/1.1"}"#);
    check("%U|%q", "/a|?b=1", r#"{"path":"/a","query":"b=1"}"#);
    check("%U|%q", "/a|", r#"{"path":"/a","query":null}"#);
    check("%U|%q", "/a|b", "query (%q): `b` does not begin with `?`");
    check("%L %R %X", "VVj-9n8 proxy-server -", r#"{"log_id":"VVj-9n8","handler":"proxy-server","connection":"-"}"#);
    check("%X", "Y", "connection (%X): `Y` is neither `X` nor `+` nor `-`");
    check(
        "%p %{canonical}p",
        "80 80",
        "format: character 4, at `%{canonical}p`: `%{canonical}p` makes the field `port`, and so does `%p`",
    );
    check("%p %{local}p %{remote}p", "80 81 82", r#"{"port":80,"local_port":81,"remote_port":82}"#);
    check("%P %{tid}P", "7 140", r#"{"pid":7,"tid":140}"#);
    check("%{pid}P %{hextid}P", "7 7f3b", r#"{"pid":7,"tid":"7f3b"}"#);
    check("%s %<s", "302 200", r#"{"status":302,"original_status":200}"#);
    check(
        "%s %>s",
        "302 200",
        "format: character 4, at `%>s`: `%>s` makes the field `status`, and so does `%s`; `%<s` is the status before an internal redirect",
    );
    check("%>s", "-", r#"{"status":null}"#);
    check("%>s", "2000", "status (%>s): `2000` is not a number of three digits");
    check("%<u|%u|%>U", "a|b|/c", r#"{"original_user":"a","user":"b","final_path":"/c"}"#);
    check(
        "%v:%p %V",
        "example.com:443 [2001:db8::1]",
        r#"{"vhost":"example.com","port":443,"server_name":"[2001:db8::1]"}"#,
    );
    check("%v:%p", "[::1]:443", r#"{"vhost":"[::1]","port":443}"#);
    check(
        "%{c}x \"%{SSL_PROTOCOL}x\" %^FB",
        "a \"TLSv1.3\" 17",
        r#"{"ssl_c":"a","ssl_ssl_protocol":"TLSv1.3","first_byte_us":17}"#,
    );
    check("100%% %h", "100% h", r#"{"host":"h"}"#);
}

#[test]
fn headers_cookies_and_the_like_keep_their_names() {
    check(
        r#""%{Referer}i" "%{User-agent}i" "%{X-Request-ID}i" "%{Content-Type}o" "%{sid}C" "%{UNIQUE_ID}e" "%{mod_gzip}n" "%{X}^ti" "%{Y}^to""#,
        r#""-" "a\tb\"" "1" "text/html" "s=1" "u" "" "t" "-""#,
        r#"{"referer":null,"user_agent":"a\tb\"","header_x_request_id":"1","response_header_content_type":"text/html","cookie_sid":"s=1","env_unique_id":"u","note_mod_gzip":null,"trailer_x":"t","response_trailer_y":null}"#,
    );
    check(
        r#""%{X-A}i" "%{X_A}i""#,
        "",
        "format: character 12, at `%{X_A}i\"`: `%{X_A}i` makes the field `header_x_a`, and so does `%{X-A}i`",
    );
}

#[test]
fn modifiers_are_understood() {
    check("%!200,304,302{Referer}i", "http://a/", r#"{"referer":"http://a/"}"#);
    check("%400,501{User-agent}i|%>s", "-|200", r#"{"user_agent":null,"status":200}"#);
    check("%{Referer}400i", "r", r#"{"referer":"r"}"#);
    check("%>500D", "-", r#"{"final_duration_us":null}"#);
}

#[test]
fn unknown_directives_are_named_with_their_place() {
    let refused = |format: &str, expected: &str| check(format, "x", expected);
    refused("%h %Q %u", "format: character 4, at `%Q %u`: `%Q` is no directive of `LogFormat`");
    refused("ü %h %<^xy %u", "format: character 6, at `%<^xy %u`: `%<^xy` is no directive of `LogFormat`");
    refused("%h %i", "format: character 4, at `%i`: `%i` needs a name: `%{NAME}i`");
    refused("%h %{Referer", "format: character 4, at `%{Referer`: its `{` is not closed");
    refused("%h 5%", "format: character 5, at `%`: the directive has no letter: a percent sign itself is `%%`");
    refused(
        "%h%l",
        "format: character 1, at `%h%l`: nothing stands between `%h` and `%l`, so where the first ends can't be known",
    );
    refused("%h %h", "format: character 4, at `%h`: `%h` makes the field `host`, and so does `%h`");
    refused("%{%x}t", "format: character 1, at `%{%x}t`: `%{%x}t`: `%x` is not a part of a time that can be read back");
    refused(
        "%{%T %d/%b}t",
        "format: character 1, at `%{%T %d/%b}t`: the form's times are not enough for an instant: a year is missing",
    );
    refused(
        "%h %{msec_frac}t",
        "format: character 4, at `%{msec_frac}t`: the form's times are not enough for an instant: a year is missing",
    );
    refused(
        "%{%F %T}t",
        "format: character 1, at `%{%F %T}t`: the time names no zone: say which the server writes, as in `zone: UTC` or `zone: +02:00`",
    );
    refused("$status $", "format: character 9, at `$`: a variable's name follows `$`: `$status`, `${status}`");
    refused(
        &"%{a}i ".repeat(65),
        "format: character 7, at `%{a}i %{a}i %{a}i %{a}i …`: `%{a}i` makes the field `header_a`, and so does `%{a}i`",
    );
}

#[test]
fn times_of_every_form() {
    let at = |format: &str, line: &str, expected: &str| {
        let found = parsed(format, Escape::Default, Some(7200), line);
        let time = found.strip_prefix(r#"{"time":""#).and_then(|rest| rest.strip_suffix(r#""}"#)).unwrap_or(&found);
        assert_eq!(time, expected, "{format}: {line}");
    };
    at("%t", TIME, "2015-05-17T08:05:03Z");
    at("%{begin}t", TIME, "2015-05-17T08:05:03Z");
    at("%{sec}t", "1431857103", "2015-05-17T10:05:03Z");
    at("%{msec}t", "1431857103250", "2015-05-17T10:05:03.250Z");
    at("%{begin:usec}t", "1431857103000250", "2015-05-17T10:05:03.000250Z");
    at("[%{sec}t.%{usec_frac}t]", "[1431857103.000250]", "2015-05-17T10:05:03.000250Z");
    at("[%{%d/%b/%Y %T}t.%{msec_frac}t %{%z}t]", "[17/May/2015 10:05:03.250 -0100]", "2015-05-17T11:05:03.250Z");
    at("%{%d/%b/%Y %T}t", "17/May/2015 10:05:03", "2015-05-17T08:05:03Z");
    at("%{%c}t", "Sun May  3 10:05:03 2015", "2015-05-03T08:05:03Z");
    at("%t", "[17/May/2015:10:05:03 *0200]", "time (%t) `[17/May/2015:10:05:03 *0200]`: no such time zone");
    at("%t %{sec}t", &format!("{TIME} 1431849903"), "2015-05-17T08:05:03Z");
    at("%t %{sec}t", &format!("{TIME} 1431849904"), "time (%{sec}t) `1431849904`: two columns tell different times");
    at("%{sec}t", "1431857103250", "time (%{sec}t) `1431857103250`: expected seconds since the epoch");
    at("$time_local", "17/May/2015:10:05:03 +0200", "2015-05-17T08:05:03Z");
    at("$time_iso8601", "2015-05-17T10:05:03+02:00", "2015-05-17T08:05:03Z");
    at("$msec", "1431857103.250", "2015-05-17T10:05:03.250Z");
    check(
        "%{begin:msec}t %{end:msec}t",
        "1431857103000 1431857103250",
        r#"{"time":"2015-05-17T10:05:03.000Z","time_end":"2015-05-17T10:05:03.250Z"}"#,
    );
    check("%{end:%s}t", "1431857103", r#"{"time_end":"2015-05-17T10:05:03Z"}"#);
}

/// A line with these columns before its time.
fn line(head: &str) -> String {
    format!("{head} {TIME} \"GET / HTTP/1.1\" 200 5")
}

/// Its object, with these fields before the request's.
fn fields(fields: &str) -> String {
    format!(
        r#"{{"time":"2015-05-17T08:05:03Z",{fields},"method":"GET","path":"/","protocol":"HTTP/1.1","status":200,"bytes":5}}"#
    )
}

/// The kinds of lines that a parser of regular expressions, or one that counts blanks, gives other columns' values to.
#[test]
fn nothing_shifts() {
    check(COMMON, &line("h - -"), &fields(r#""host":"h","ident":null,"user":null"#));
    check(COMMON, &line("h - Ann B. Cole"), &fields(r#""host":"h","ident":null,"user":"Ann B. Cole""#));
    check(
        COMMON,
        &line(&format!("h - Ann {TIME} [x]")),
        &fields(&format!(r#""host":"h","ident":null,"user":"Ann {TIME} [x]""#)),
    );
    check(COMMON, &line("h - \"\""), &fields(r#""host":"h","ident":null,"user":null"#));
    check(COMMON, &line("v:80 h - -"), "host (%h): `v:80` is neither an address nor a name");
    check(COMMON, &line("v h - -"), "user (%u): `- -`: a `-` alone in it is a column too many");
    check(
        COMMON,
        &line("a.example 192.0.2.7 x ann"),
        "ident (%l): `192.0.2.7` is an address or a name: there is a column too many before it",
    );
    check(
        COMMON,
        &line("a, b - -"),
        "host (%h): expected ` ` behind `a`, found `, b - - [17/May/2015:10:05:03 +0200] \"GE`",
    );
    check(COMMON, &line("h -"), "user (%u) is missing");
}

#[test]
fn lists_may_have_blanks_behind_commas() {
    let forwarded = "%{X-Forwarded-For}i %l %u %t \"%r\" %>s %b";
    let list =
        |list: &str, user: &str| fields(&format!(r#""header_x_forwarded_for":{list},"ident":null,"user":{user}"#));
    check(forwarded, &line("192.0.2.7, 10.0.0.1 - -"), &list(r#""192.0.2.7, 10.0.0.1""#, "null"));
    check(
        forwarded,
        &line("192.0.2.7,10.0.0.1:80, [::1]:80, unknown - ann"),
        &list(r#""192.0.2.7,10.0.0.1:80, [::1]:80, unknown""#, r#""ann""#),
    );
    check(forwarded, &line("- - ann"), &list("null", r#""ann""#));
    check(
        forwarded,
        &line("192.0.2.7 x - ann"),
        "ident (%l) and user (%u): `192.0.2.7 x - ann` can be read in more than one way, since each ` ` may belong to either",
    );
    check(forwarded, &line("x, - ann"), "ident (%l): expected ` ` behind it, found `ann`");
    check(
        forwarded,
        &line("1.1.1.1, - Ann Cole"),
        "header_x_forwarded_for (%{X-Forwarded-For}i) `1.1.1.1, -` is no list of addresses",
    );
}

#[test]
fn text_without_quotes_is_read_where_there_is_one_way() {
    check("%{A}i %{B}i %>s", "a b 200", r#"{"header_a":"a","header_b":"b","status":200}"#);
    check(
        "%{A}i %{B}i %>s",
        "a b c 200",
        "header_a (%{A}i) and header_b (%{B}i): `a b c` can be read in more than one way, since each ` ` may belong to either",
    );
    check("%{A}i %>s", "a b c 200", r#"{"header_a":"a b c","status":200}"#);
    check("%{Referer}i -> %U", "http://a/ -> /b", r#"{"referer":"http://a/","path":"/b"}"#);
    check(
        "%{Referer}i -> %U",
        "x -> y -> /b",
        "referer (%{Referer}i) and path (%U): `x -> y -> /b` can be read in more than one way, since each ` -> ` may belong to either",
    );
    check("%h:%{remote}p %u", "2001:db8::1:80 ann b", r#"{"host":"2001:db8::1","remote_port":80,"user":"ann b"}"#);
    check("%u\t%h\t%{A}i", "a b\th\tc d", r#"{"user":"a b","host":"h","header_a":"c d"}"#);
    check("%u\t%h\t%{A}i", "a\\tb\th\tc", r#"{"user":"a\tb","host":"h","header_a":"c"}"#);
    check("\"%{A}i\" \"%{B}i\"", r#""a\" \"b" "c""#, r#"{"header_a":"a\" \"b","header_b":"c"}"#);
    check(
        "\"%{A}i\" \"%{B}i\"",
        r#""a" "b" "c""#,
        "the line goes on behind its last column, header_b (%{B}i): ` \"c\"`",
    );
    check("\"%{A}i\" \"%{B}i\"", r#""a" "b"#, "header_b (%{B}i): no closing quote");
    check("\"%{A}i\" \"%{B}i\"", r#""a\" "b""#, r#"header_a (%{A}i): expected `\" \"` behind `a\" `, found `"b"`"#);
    check("[%h] x", "[h] y", "host (%h): expected `] x` behind `h`, found `] y`");
    check("<%h", "h", "the line does not begin with `<`: `h`");
    check("%h", "", "the line is empty");
}

#[test]
fn requests_of_every_kind() {
    check("\"%r\"", "\"-\"", r#"{"method":null,"path":null,"protocol":null}"#);
    check("\"%r\"", "\"\"", r#"{"method":null,"path":null,"protocol":null}"#);
    check("\"%r\"", r#""\x16\x03\x01\"""#, r#"{"method":null,"path":"\u0016\u0003\u0001\"","protocol":null}"#);
    check("\"%>r\"", "\"GET / HTTP/1.0\"", r#"{"final_method":"GET","final_path":"/","final_protocol":"HTTP/1.0"}"#);
    check("%r", "GET /a b HTTP/2.0", r#"{"method":"GET","path":"/a b","protocol":"HTTP/2.0"}"#);
}

#[test]
fn nginx_variables() {
    check(
        r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for" rt=$request_time uct="$upstream_connect_time" ua=$upstream_addr us=$upstream_status ${scheme} $foo"#,
        r#"unix: - a b [17/May/2015:10:05:03 +0200] "GET /\x22 HTTP/1.1" 200 5 "-" "x\x22" "1.2.3.4, junk" rt=0.250 uct="0.001, -" ua=10.0.0.1:80, 10.0.0.2:80 : unix:/s us=502, 200 : 200 https any thing"#,
        r#"{"time":"2015-05-17T08:05:03Z","host":"unix:","user":"a b","method":"GET","path":"/\"","protocol":"HTTP/1.1","status":200,"bytes":5,"referer":null,"user_agent":"x\"","header_x_forwarded_for":"1.2.3.4, junk","duration_s":0.250,"upstream_connect_time":"0.001, -","upstream_addr":"10.0.0.1:80, 10.0.0.2:80 : unix:/s","upstream_status":"502, 200 : 200","scheme":"https","foo":"any thing"}"#,
    );
    check("$uri$is_args$args|$host|$hostname", "/a?b|h:80|me", r#"{"uri":"/a?b","vhost":"h:80","hostname":"me"}"#);
    check("$args $sent_http_x_y", "a=b c", r#"{"query":"a=b","response_header_x_y":"c"}"#);
    check("$request_time", "00.1", "duration_s ($request_time): `00.1` is not a number");
    let json = r#"{"t":"$time_iso8601","s":$status,"r":"$request","u":"$http_user_agent","b":$body_bytes_sent,"up":"$upstream_status"}"#;
    let line = r#"{"t":"2015-05-17T10:05:03+00:00","s":200,"r":"GET /\"\u0001\\ HTTP/1.1","u":"","b":5,"up":""}"#;
    assert_eq!(
        parsed(json, Escape::Json, None, line),
        r#"{"time":"2015-05-17T10:05:03Z","status":200,"method":"GET","path":"/\"\u0001\\","protocol":"HTTP/1.1","user_agent":null,"bytes":5,"upstream_status":null}"#
    );
}
