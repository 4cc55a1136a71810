// Lists that come in pieces: where a piece ends means nothing, and half a list is none.

using System.Text;
using Xunit;

namespace OMJobs.Tests;

public sealed class ListReaderTests
{
    /// <summary>What would lead astray who counts brackets: texts with brackets, escapes, empty ones.</summary>
    static readonly string[] Items =
    [
        """{"a":"]}[{\"","b":"\\"}""", """{"items":[{"metadata":{}}],"metadata":{"resourceVersion":"7"}}""",
        """[[],[[{}]]]""", "\"ä€😀\\ud83d\\ude00\"", "-12.5e+3", "null", "true", "{}", "[]", "\"\"",
    ];

    const string Meta = """{"resourceVersion":"10","continue":"next]}","remainingItemCount":3}""";
    static readonly string InOrder =
        $$"""{"kind":"List","metadata":{{Meta}},"items":[{{string.Join(',', Items)}}],"more":[{"x":"]"}]}""";

    public static TheoryData<string, string> Lists => new()
    {
        { "as API servers write it", InOrder },
        {
            "with blanks and line feeds", $$"""
             { "metadata" :
               {{Meta}} ,
              "items" : [ {{string.Join(" ,\n\t", Items)}}
              ] }

            """
        },
        { "metadata after the items", $$"""{"items":[{{string.Join(',', Items)}}],"metadata":{{Meta}}}""" },
        {
            "things of those names deeper down",
            $$$"""
            {"x":{"items":[1,2],"metadata":{"resourceVersion":"9"}},"metadata":{{{Meta}}},
            "y":["items",[3]],"items":[{{{string.Join(',', Items)}}}]}
            """
        },
    };

    /// <summary>What a reader makes of the pieces; a line for each item, then the metadata or the fault.</summary>
    static string Read(params IEnumerable<byte[]> pieces)
    {
        var said = new List<string>();
        var list = new ListReader(item => said.Add(Encoding.UTF8.GetString(item)));
        Reply reply;
        try
        {
            foreach (var piece in pieces) list.Feed(piece);
            reply = list.Read(new Reply(200, []));
        }
        catch (System.Text.Json.JsonException e) { return $"no JSON: {e.GetType().BaseType!.Name}"; } // ApiServer's
        return string.Join('\n', said.Append(reply.Ok ? $"{list.Meta}" : reply.Message));
    }

    static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    const string NoList = "the list cannot be read";
    static readonly string Whole =
        string.Join('\n', Items.Append($"{new ListMeta("10", "next]}")}"));

    [Theory, MemberData(nameof(Lists))]
    public void Items_and_metadata_are_the_same_wherever_a_list_is_split(string what, string text)
    {
        var bytes = Bytes(text);
        for (var at = 0; at <= bytes.Length; at++)
        {
            var read = Read(bytes[..at], bytes[at..]);
            Assert.True(Whole == read, $"{what}, split at {at}: {read}");
        }
    }

    [Theory, MemberData(nameof(Lists))]
    public void Items_and_metadata_are_the_same_when_every_byte_comes_alone(string what, string text) =>
        Assert.True(Whole == Read(Bytes(text).Select(b => new[] { b })), what);

    [Theory, MemberData(nameof(Lists))]
    public void A_list_that_ends_anywhere_before_its_end_is_none(string what, string text)
    {
        var bytes = Bytes(text.TrimEnd());
        for (var end = 0; end < bytes.Length; end++)
            Assert.True(Read(bytes[..end]).EndsWith(NoList, StringComparison.Ordinal), $"{what}, ends at {end}");
    }

    [Fact]
    public void What_came_as_a_whole_is_taken_as_a_list_too()
    {
        var said = new List<string>();
        var list = new ListReader(item => said.Add(Encoding.UTF8.GetString(item)));
        var reply = new Reply(200, Bytes(InOrder));
        Assert.Same(reply, list.Read(reply));
        Assert.Equal(Items, said);
    }

    [Fact]
    public void An_item_is_handed_out_as_soon_as_it_is_there()
    {
        var said = new List<string>();
        var list = new ListReader(item => said.Add(Encoding.UTF8.GetString(item)));
        list.Feed("""{"items":[{"a":1},{"b":2},{"c":"""u8);
        Assert.Equal(["""{"a":1}""", """{"b":2}"""], said);
        list.Feed("3"u8);
        Assert.Equal(2, said.Count);
        list.Feed("}"u8);
        Assert.Equal("""{"c":3}""", said[^1]);
    }

    [Theory]
    [InlineData("")]
    [InlineData(" ")]
    [InlineData("garbage")]
    [InlineData("<html>no</html>")]
    [InlineData("[]")]
    [InlineData("null")]
    [InlineData("7")]
    [InlineData("{}")]
    [InlineData("""{"items":[]}""")]
    [InlineData("""{"items":[],"metadata":null}""")]
    [InlineData("""{"items":[],"metadata":{}}""")]
    [InlineData("""{"items":[],"metadata":{"resourceVersion":null}}""")]
    [InlineData("""{"items":[],"metadata":7}""")]
    [InlineData("""{"items":[],"metadata":{"resourceVersion":7}}""")]
    [InlineData("""{"metadata":{"resourceVersion":"10"},"items":[}""")]
    [InlineData("""{"metadata":{"resourceVersion":"10"},"items":[{}{}]}""")]
    [InlineData("""{"metadata":{"resourceVersion":"10"},"items":[{]]}""")]
    [InlineData("""{"metadata":{"resourceVersion":"10"},"items":[]""")]
    public void What_is_no_list_with_a_version_is_a_fault(string text)
    {
        var reply = new ListReader(_ => { }).Read(new Reply(200, Bytes(text)));
        Assert.Equal((Outcome.Fault, NoList), (reply.Outcome, reply.Message));
    }

    [Theory]
    [InlineData("""{"metadata":{"resourceVersion":"10"}}""")]
    [InlineData("""{"metadata":{"resourceVersion":"10"},"items":null}""")]
    [InlineData("""{"metadata":{"resourceVersion":"10"},"items":[]}""")]
    [InlineData("""{"metadata":{"resourceVersion":"10"},"items":{"a":[1]}}""")]
    public void A_list_without_items_is_an_empty_one(string text) =>
        Assert.Equal($"{new ListMeta("10", null)}", Read(Bytes(text)));

    [Fact]
    public void A_refusal_is_handed_on_as_it_is()
    {
        var reply = new Reply(403, Bytes("""{"message":"no"}"""));
        Assert.Same(reply, new ListReader(_ => Assert.Fail("no item")).Read(reply));
    }

    [Fact]
    public void An_item_may_be_nested_as_deep_as_an_API_server_takes_it()
    {
        var deep = new string('[', 10_000) + new string(']', 10_000);
        var bytes = Bytes($$"""{"metadata":{"resourceVersion":"10"},"items":[{{deep}}]}""");
        Assert.StartsWith(deep, Read(bytes.Chunk(4096)), StringComparison.Ordinal);
    }

    /// <summary>The next page's size after one of so many items with so many bytes each, framing included.</summary>
    static int Next(int asked, int items, int bytesEach)
    {
        var list = new ListReader(_ => { });
        var item = '"' + new string('x', Math.Max(0, bytesEach - 3)) + "\",";
        list.Feed("""{"metadata":{"resourceVersion":"10"},"items":["""u8);
        for (var i = 0; i < items; i++) list.Feed(Bytes(i < items - 1 ? item : item.TrimEnd(',')));
        list.Feed("]}"u8);
        return list.NextPage(asked);
    }

    [Theory]
    [InlineData(10, 10, 100, 80)] // small ones: eight times as many, no matter how small they are
    [InlineData(80, 80, 100, 640)]
    [InlineData(640, 640, 100, 1000)] // that is the most
    [InlineData(1000, 1000, 100, 1000)]
    [InlineData(10, 3, 100, 80)] // the last one of a list
    [InlineData(1, 1, 100, 8)]
    [InlineData(10, 1, 8 << 20, 1)] // larger than a good page: one at a time
    [InlineData(1, 1, 8 << 20, 1)]
    [InlineData(10, 0, 0, 10)] // nothing was seen
    public void A_page_has_more_items_or_fewer_after_what_was_seen(int asked, int items, int bytesEach, int expected) =>
        Assert.Equal(expected, Next(asked, items, bytesEach));

    [Theory, InlineData(10, 64), InlineData(10, 100), InlineData(2, 500), InlineData(40, 16)]
    public void A_page_is_to_have_four_megabytes(int items, int kilobytesEach)
    {
        var next = Next(1000, items, kilobytesEach << 10);
        Assert.InRange((double)next * kilobytesEach, 0.9 * 4096, 4096);
    }
}
