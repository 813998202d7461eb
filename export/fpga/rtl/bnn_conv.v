// A convolution: a line buffer of whole rows, read window by window, NF times each, while further rows arrive. There is no
// register as wide as a window.
`default_nettype none
module bnn_conv #(
  parameter PE = 4,
  parameter SIMD = 8,
  parameter XB = 1,
  parameter CS = 1,           // words of SIMD channels at a position
  parameter W = 8,            // columns and rows of the incoming map
  parameter H = 8,
  parameter KW = 3,           // columns and rows of the window
  parameter KH = 3,
  parameter SX = 1,           // its steps
  parameter SY = 1,
  parameter PL = 0,           // columns on the left and rows on top that padding adds
  parameter PT = 0,
  parameter OW = 6,           // columns and rows of the result
  parameter OH = 6,
  parameter PAD = 0,          // what padding counts as: 1: +1, 0: 0, 2: -1
  parameter NF = 4,
  parameter AW = 8,
  parameter LOG = 4,
  parameter WK = 1,
  parameter WFILE = "",
  parameter TFILE = ""
) (
  input  wire clk,
  input  wire rst,
  input  wire in_valid,
  output wire in_ready,
  input  wire [SIMD*XB-1:0] in_data,
  output wire out_valid,
  input  wire out_ready,
  output wire [PE-1:0] out_data
);
  // the rows that one row of the result waits for, at most: a window, or all up to the next window or the map's end
  localparam REST = H + PT - (OH-1)*SY;
  localparam LAST = REST > KH ? REST : KH;
  localparam MOST = LAST > SY ? LAST : SY;
  localparam ROWS = 2*MOST;          // so that as many arrive while they are read
  localparam WC = W*CS;
  localparam DEPTH = ROWS*WC;
  localparam AD = DEPTH > 1 ? $clog2(DEPTH) : 1;
  localparam RB = $clog2(ROWS + 1);
  /* verilator lint_off WIDTHTRUNC */
  localparam [AD-1:0] LAST_WORD = DEPTH - 1, LAST_COL = WC - 1, LAST_ROW = DEPTH - WC;
  localparam [RB-1:0] FULL = ROWS;
  /* verilator lint_on WIDTHTRUNC */
  localparam SF = KH*KW*CS;
  localparam DW = NF*SF > 1 ? $clog2(NF*SF) : 1;
  localparam PADDED = PL > 0 || PT > 0 || (OW-1)*SX + KW > W || (OH-1)*SY + KH > H;
  localparam YB = $clog2(H + KH + SY + PT + 1) + 2;   // signed rows
  localparam XW = $clog2(W + KW + SX + PL + 1) + 2;   // signed columns
  localparam OB = AD + 2;                             // signed offsets into a row
  (* no_rw_check *)  // rows that are read have been written, and are let go before they are written again
  reg [SIMD*XB-1:0] mem [0:DEPTH-1];

  // writing: rows follow each other around the memory
  reg [AD-1:0] wp;
  reg [AD-1:0] wcol;
  reg [RB-1:0] rows;                 // whole rows that have not been let go
  assign in_ready = rows != FULL;
  wire put = in_valid && in_ready;
  wire row_in = put && wcol == LAST_COL;
  always @(posedge clk) if (put) mem[wp] <= in_data;
  always @(posedge clk) begin
    if (rst) begin
      wp <= 0; wcol <= 0;
    end else if (put) begin
      wp <= wp == LAST_WORD ? {AD{1'b0}} : wp + 1'b1;
      wcol <= wcol == LAST_COL ? {AD{1'b0}} : wcol + 1'b1;
    end
  end

  // before each row of the result two cycles say which rows it needs and which it lets go
  reg [1:0] prepare;
  reg signed [YB-1:0] start;         // first row of the window, negative in the padding
  reg [$clog2(OH+1)-1:0] oy;
  reg [RB-1:0] need, drop;
  reg [AD:0] drop_words;
  reg [AD-1:0] base;                 // where the first row in use begins
  wire signed [YB-1:0] from = start < 0 ? 0 : start;
  wire signed [YB-1:0] upto = start + KH > H ? H : start + KH;
  wire signed [YB-1:0] next = oy == OH - 1 ? H : start + SY < 0 ? 0 : start + SY;
  wire [YB-1:0] needed = upto - from;
  wire [YB-1:0] dropped = next - from;
  localparam [AD+1:0] AROUND = DEPTH;
  wire [AD+1:0] moved = {2'b00, base} + {1'b0, drop_words};
  wire [AD-1:0] wrapped;
  wire [1:0] unused_bits;
  assign {unused_bits, wrapped} = moved >= AROUND ? moved - AROUND : moved;

  // reading: word of a position, column, row of the window, group, column, row of the result
  reg [$clog2(CS+1)-1:0] s;
  reg [$clog2(KW+1)-1:0] kx;
  reg [$clog2(KH+1)-1:0] ky;
  reg [$clog2(NF+1)-1:0] nf;
  reg [$clog2(OW+1)-1:0] ox;
  reg signed [YB-1:0] iy;
  reg signed [XW-1:0] ix, ix0;
  reg signed [OB-1:0] off, off0;     // of the word, and of the first word of the window
  reg [AD-1:0] rowp;
  reg [DW-1:0] waddr, waddr1;
  reg row_begins;
  wire credit;
  wire first = s == 0 && kx == 0 && ky == 0;
  wire end_s = s == CS - 1;
  wire end_x = end_s && kx == KW - 1;
  wire end_group = end_x && ky == KH - 1;
  wire end_position = end_group && nf == NF - 1;
  wire end_row = end_position && ox == OW - 1;
  wire enough = rows >= need;
  wire go = prepare == 0 && (!first || (credit && (!row_begins || enough)));
  wire above = iy < 0;
  always @(posedge clk) begin
    if (rst) begin
      prepare <= 2'd2; start <= -PT; oy <= 0; base <= 0; rows <= 0;
      s <= 0; kx <= 0; ky <= 0; nf <= 0; ox <= 0; waddr <= 0; row_begins <= 1'b1;
      iy <= -PT; ix <= -PL; ix0 <= -PL; off <= -PL*CS; off0 <= -PL*CS; rowp <= 0;
      need <= 0; drop <= 0; drop_words <= 0;
    end else begin
      rows <= rows + {{(RB-1){1'b0}}, row_in} - (go && end_row ? drop : {RB{1'b0}});
      if (prepare != 0) prepare <= prepare - 1'b1;
      if (prepare == 2) begin
        need <= needed > dropped ? needed[RB-1:0] : dropped[RB-1:0]; drop <= dropped[RB-1:0];
      end
      if (prepare == 1) drop_words <= drop*WC;
      if (go) begin
        row_begins <= 1'b0;
        s <= end_s ? 0 : s + 1'b1;
        if (end_s) kx <= end_x ? 0 : kx + 1'b1;
        if (end_x) ky <= end_group ? 0 : ky + 1'b1;
        waddr <= end_position ? {DW{1'b0}} : waddr + 1'b1;
        if (end_s) ix <= ix + 1'b1;
        off <= off + 1'b1;
        if (end_x) begin
          ix <= ix0; off <= off0; iy <= iy + 1'b1;
          if (!above) rowp <= rowp == LAST_ROW ? {AD{1'b0}} : rowp + WC;
        end
        if (end_group) begin
          nf <= nf == NF - 1 ? 0 : nf + 1'b1;
          iy <= start; rowp <= base;
        end
        if (end_position) begin
          ox <= ox + 1'b1;
          ix <= ix0 + SX; ix0 <= ix0 + SX; off <= off0 + SX*CS; off0 <= off0 + SX*CS;
        end
        if (end_row) begin
          ox <= 0; prepare <= 2'd2; row_begins <= 1'b1;
          ix <= -PL; ix0 <= -PL; off <= -PL*CS; off0 <= -PL*CS;
          oy <= oy == OH - 1 ? 0 : oy + 1'b1;
          start <= oy == OH - 1 ? -PT : start + SY;
          iy <= oy == OH - 1 ? -PT : start + SY;
          base <= wrapped;
          rowp <= wrapped;
        end
      end
    end
  end

  // a stage for the address, and one for the memory
  reg [AD-1:0] rp;
  reg go1, first1, last1, outside1, outside2;
  reg [SIMD*XB-1:0] read;
  always @(posedge clk) begin
    go1 <= go && !rst; first1 <= first; last1 <= end_group; waddr1 <= waddr;
    rp <= rowp + off[AD-1:0];
    outside1 <= PADDED && (iy < 0 || iy >= H || ix < 0 || ix >= W);
    outside2 <= outside1;
    read <= mem[rp];
  end
  wire [SIMD*XB-1:0] word = outside2 ? (PAD == 1 && XB == 1 ? {SIMD*XB{1'b1}} : {SIMD*XB{1'b0}}) : read;
  bnn_mac #(.PE(PE), .SIMD(SIMD), .XB(XB), .SF(SF), .NF(NF), .AW(AW), .THRESH(1), .LOG(LOG), .WK(WK), .WFILE(WFILE),
            .TFILE(TFILE)) mac (
    .clk(clk), .rst(rst), .set_out(go && first), .issue(go1), .issue_first(first1), .issue_last(last1),
    .issue_zero(PAD == 0 && PADDED && outside1), .x(word), .waddr(waddr1), .credit(credit),
    .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));
endmodule
`default_nettype wire
