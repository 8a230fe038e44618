"""What people enter to make a server call itself, its neighbors or its cloud. `{p}` is the port of a listener on loopback."""

from licensesvc.outbound.addresses import DENIED

HOSTS = (
    # loopback in every spelling that some reader takes for it
    "127.0.0.1", "127.0.0.2", "127.1.1.1", "127.255.255.254", "127.1", "127.0.1", "127", "0", "0.0.0.0", "0.0.0.1",
    "2130706433", "017700000001", "0x7f000001", "0x7F000001", "0x7f.0.0.1", "0x7f.1", "0x7f.0x0.0x0.0x1", "0177.0.0.1",
    "0177.0.0.01", "0177.1", "00000177.0.0.1", "127.0.0.01", "127.0.0.001", "0x000000007f000001", "127.0.0.0x1",
    "127.0.0.1.", "127.0.0.1..", "1.2.3", "1.2.3.4.5", "256.256.256.256", "383.256.256.257", "4294967296",
    "8454143745", "127.0.0.1%00", "127.0.0.1%20", "127%2e0%2e0%2e1", "%31%32%37.0.0.1", "127.0.0.1%0d%0a", "127.0.0.1%2f",
    "localhost", "LOCALHOST", "localhost.", "LocalHost.", "a.localhost", "localhost.localdomain", "localhost%00.hooks.example",
    "ip6-localhost", "receiver", "db", "kubernetes.default.svc.cluster.local", "printer.local", "nas.lan", "router.home",
    "wiki.corp", "x.intranet", "x.home.arpa", "metadata.google.internal", "metadata.google.internal.", "instance-data",
    "metadata", "hooks..example", ".hooks.example", "-hooks.example", "hooks-.example", "hooks_1.example", "hooks.example.",
    "a" * 64 + ".example", "a." * 130 + "example", "hooks.example.0x7f", "hooks.123", "hooks.0x",
    # Unicode that becomes digits, dots, slashes or letters somewhere
    "１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "ｌｏｃａｌｈｏｓｔ", "loc\u00adalhost",
    "localhost\u200b", "𝟏𝟐𝟕.𝟎.𝟎.𝟏", "١٢٧.٠.٠.١", "hooks.example\u2100localhost", "hooks.example\uff0flocalhost", "löcalhost.example",
    "straße.example", "hooks.example\u3002",
    # IPv6, plain and with an IPv4 address inside
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::0001]", "[::127.0.0.1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::FFFF:127.0.0.1]", "[::ffff:0:127.0.0.1]",
    "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::ffff:10.0.0.1]", "[::ffff:8.8.8.8]", "[::7f00:1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::8.8.8.8]", "[64:ff9b:1::7f00:1]",
    "[64:ff9b:1:ffff::7f00:1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2002:808:808::1]", "[2001:0:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[2606:4700::5efe:7f00:1]", "[2606:4700::200:5efe:a9fe:a9fe]",
    "[fe80::1]", "[fe80::1%eth0]", "[fe80::1%25eth0]", "[fe80::1%251]", "[::1%lo]", "[::1%25lo]", "[fec0::1]", "[feff::1]",
    "[fc00::1]", "[fd00::1]", "[fd00:ec2::254]", "[fd20:ce::254]", "[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", "[ff02::1]",
    "[ff0e::1]", "[100::1]", "[2001:db8::1]", "[3fff::1]", "[2001:2::1]", "[2001:10::1]", "[2001:20::1]", "[5f00::1]",
    "[4000::1]", "[8000::1]", "[1::1]", "[::2]", "[::1", "::1", "::1]", "[[::1]]", "[127.0.0.1]", "[::1].hooks.example",
    "[::1]hooks.example", "hooks.example[::1]", "[::ffff:0x7f.0.0.1]", "[::ffff:127.1]", "[]", "[v1.127.0.0.1]", "[::1\uff11]",
    # neighbors
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255", "100.64.0.1",
    "100.127.255.255", "169.254.0.1", "198.18.0.1", "198.19.255.255", "192.0.0.1", "192.0.2.1", "198.51.100.1",
    "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "0.1.2.3",
    # clouds
    "169.254.169.254", "169.254.170.2", "169.254.169.123", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518",
    "100.100.100.200", "168.63.129.16", "192.0.0.192",
)  # fmt: skip
"""Hosts of `https://{host}:{p}/`."""

URLS = (
    "http://hooks.example:{p}/", "http://127.0.0.1:{p}/", "HTTP://127.0.0.1:{p}/", "HTTPS://hooks.example:{p}/",
    "https:hooks.example:{p}", "https:/127.0.0.1:{p}/", "https:///127.0.0.1:{p}/", "https:\\\\127.0.0.1:{p}\\",
    "https://\\127.0.0.1:{p}/", "//127.0.0.1:{p}/", "127.0.0.1:{p}", "/hook", "", " ", "https://", "https:///", "https://:{p}/",
    "https://?@127.0.0.1:{p}/", "https://#@127.0.0.1:{p}/", "https://user@hooks.example:{p}/", "https://user:pw@hooks.example:{p}/",
    "https://@127.0.0.1:{p}/", "https://hooks.example@127.0.0.1:{p}/", "https://127.0.0.1:{p}@hooks.example/",
    "https://hooks.example:443@127.0.0.1:{p}/", "https://hooks.example\\@127.0.0.1:{p}/", "https://127.0.0.1:{p}\\@hooks.example/",
    "https://hooks.example#@127.0.0.1:{p}/", "https://hooks.example:{p}/#fragment", "https://hooks.example%40127.0.0.1:{p}/",
    "https://hooks.example;127.0.0.1:{p}/", "https://hooks.example,127.0.0.1:{p}/", "https://hooks.example 127.0.0.1:{p}/",
    "https://hooks.example:{p}:80/", "https://hooks.example:0/", "https://hooks.example:65536/", "https://hooks.example:99999/",
    "https://hooks.example:-1/", "https://hooks.example:+443/", "https://hooks.example:0443/", "https://hooks.example:4_43/",
    "https://hooks.example:４４３/", "https://hooks.example: 443/", "https://hooks.example:22/", "https://hooks.example:25/",
    "https://hooks.example:80/", "https://hooks.example:53/", "https://hooks.example:389/", "https://hooks.example:6379/",
    "https://hooks.example:11211/", "https://hooks.example:5432/", "https://hooks.example:3306/", "https://hooks.example:9200/",
    "https://hooks.example:27017/", "https://hooks.example:2375/", "https://hooks.example:6443/", "https://hooks.example:10250/",
    "https://hooks.example:{p}/a b", "https://hooks.example:{p}/a\tb", "https://hooks.example:{p}/a\r\nX-Injected: 1",
    "https://hooks.example:{p}/\x00", "https://hooks.example:{p}/\x7f", "https://hooks.example:{p}/ü", "https://hooks.example:{p}/%",
    "https://hooks.example:{p}/%zz", "https://hooks.example:{p}/<script>", "https://hooks.example:{p}/\n", "\nhttps://hooks.example:{p}/",
    " https://hooks.example:{p}/", "https://hooks.example:{p}/ ", "\u00a0https://hooks.example:{p}/", "ht\ntps://127.0.0.1:{p}/",
    "https://127.0.0.1:{p}/" + "a" * 1000, "https://hooks.example:{p}/" + "a" * 1000,
    "ftp://127.0.0.1:{p}/", "file:///etc/passwd", "file://localhost/etc/passwd", "gopher://127.0.0.1:{p}/_x", "dict://127.0.0.1:{p}/",
    "ldap://127.0.0.1:{p}/", "ws://127.0.0.1:{p}/", "wss://127.0.0.1:{p}/", "javascript:alert(1)", "data:text/plain,x", "jar:https://127.0.0.1!/",
    "unix:///run/docker.sock", "http+unix://%2Frun%2Fdocker.sock/", "https+unix://x/", "netdoc:///etc/passwd", "url:https://127.0.0.1:{p}/",
)  # fmt: skip
"""Whole URLs."""

ANSWERS = (
    *((str(network.network_address + min(1, network.num_addresses - 1)),) for network, _ in DENIED),
    *((str(network.broadcast_address),) for network, _ in DENIED),
    ("9.9.9.9", "127.0.0.1"),
    ("127.0.0.1", "9.9.9.9"),
    ("9.9.9.9", "2606:4700::1", "::1"),
    ("fe80::1%lo",),
    ("2606:4700::1%lo",),
    ("168.63.129.16",),
    ("::ffff:127.0.0.1",),
    ("127.1",),
    ("hooks.example",),
    ("",),
    (),
)
"""What a name server says about `hooks.example`."""
