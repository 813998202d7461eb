`default_nettype none

// Counts to N around; `last` is high at N - 1, from a register.
module bnn_count #(parameter N = 4) (
  input  wire clk,
  input  wire rst,
  input  wire step,
  output wire last
);
  generate
    if (N == 1) begin : one
      wire unused = &{clk, rst, step};
      assign last = 1'b1;
    end else begin : many
      localparam B = $clog2(N);
      /* verilator lint_off WIDTHTRUNC */
      localparam [B-1:0] BEFORE = N - 2;
      /* verilator lint_on WIDTHTRUNC */
      reg [B-1:0] n;
      reg end_n;
      always @(posedge clk) begin
        if (rst) begin n <= 0; end_n <= 1'b0; end
        else if (step) begin n <= end_n ? {B{1'b0}} : n + 1'b1; end_n <= n == BEFORE; end
      end
      assign last = end_n;
    end
  endgenerate
endmodule

// A convolution: a line buffer of whole rows, read window by window, NF times each, while further rows arrive. There is no
// register as wide as a window.
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

  // what the next row of the result needs and lets go is worked out while this one is read, in as many cycles as it has
  // adders one after the other; two cycles lie between rows
  localparam signed [YB-1:0] TOP = -PT, SECOND = OH == 1 ? -PT : SY - PT, BOTTOM = H,
    OVER = H - KH, NEAR = -SY;
  localparam NEED0 = H < KH - PT ? H : KH - PT;
  localparam DROP0 = OH == 1 ? H : SY > PT ? SY - PT : 0;
  localparam OYW = $clog2(OH+1);
  localparam [AD:0] AROUND = DEPTH;
  reg [1:0] prepare;
  reg signed [YB-1:0] start;         // first row of the next window, negative in the padding
  reg [OYW-1:0] oy;                  // the next row of the result
  wire last_oy = oy == OH - 1;
  reg signed [YB-1:0] from, upto, next;
  reg [YB-1:0] needed, dropped;
  reg [RB-1:0] need, drop;           // of the row being read
  reg [AD:0] drop_words;
  reg [AD-1:0] base;                 // where the first row in use begins
  reg [AD-1:0] moved;                // where it will, unless that lies past the end of the memory
  reg [AD:0] around;                 // there: less the whole memory, negative if it does not
  wire [AD-1:0] wrapped = around[AD] ? moved : around[AD-1:0];
  always @(posedge clk) begin
    from <= start < 0 ? 0 : start;
    upto <= start > OVER ? BOTTOM : start + KH;
    next <= last_oy ? BOTTOM : start < NEAR ? 0 : start + SY;
    needed <= upto - from;
    dropped <= next - from;
    drop_words <= drop*WC;
    moved <= base + drop_words[AD-1:0];
    around <= {1'b0, base} + (drop_words - AROUND);
  end

  // reading: word of a position, column, row of the window, group, column of the result
  reg signed [YB-1:0] iy, iy0;
  reg signed [XW-1:0] ix, ix0;
  reg signed [OB-1:0] off, off0;     // of the word, and of the first word of the window
  reg [AD-1:0] rowp;
  reg [DW-1:0] waddr;
  reg first, row_begins, enough;
  wire credit;
  wire go = prepare == 0 && (!first || (credit && (!row_begins || enough)));
  wire last_s, last_kx, last_ky, last_nf, last_ox;
  wire end_s = last_s;
  wire end_x = end_s && last_kx;
  wire end_group = end_x && last_ky;
  wire end_position = end_group && last_nf;
  wire end_row = end_position && last_ox;
  bnn_count #(.N(CS)) count_s (.clk(clk), .rst(rst), .step(go), .last(last_s));
  bnn_count #(.N(KW)) count_kx (.clk(clk), .rst(rst), .step(go && end_s), .last(last_kx));
  bnn_count #(.N(KH)) count_ky (.clk(clk), .rst(rst), .step(go && end_x), .last(last_ky));
  bnn_count #(.N(NF)) count_nf (.clk(clk), .rst(rst), .step(go && end_group), .last(last_nf));
  bnn_count #(.N(OW)) count_ox (.clk(clk), .rst(rst), .step(go && end_position), .last(last_ox));
  wire above = iy < 0;
  always @(posedge clk) begin
    enough <= rows >= need;
    if (rst) begin
      prepare <= 2'd2; start <= SECOND; oy <= OH == 1 ? 0 : 1; base <= 0; rows <= 0;
      first <= 1'b1; row_begins <= 1'b1; waddr <= 0;
      iy <= TOP; iy0 <= TOP; ix <= -PL; ix0 <= -PL; off <= -PL*CS; off0 <= -PL*CS; rowp <= 0;
      need <= NEED0 > DROP0 ? NEED0[RB-1:0] : DROP0[RB-1:0]; drop <= DROP0[RB-1:0];
    end else begin
      rows <= rows + {{(RB-1){1'b0}}, row_in} - (go && end_row ? drop : {RB{1'b0}});
      if (prepare != 0) prepare <= prepare - 1'b1;
      if (go) begin
        first <= end_group;
        row_begins <= end_row;
        waddr <= end_position ? {DW{1'b0}} : waddr + 1'b1;
        if (end_s) ix <= ix + 1'b1;
        off <= off + 1'b1;
        if (end_x) begin
          ix <= ix0; off <= off0; iy <= iy + 1'b1;
          if (!above) rowp <= rowp == LAST_ROW ? {AD{1'b0}} : rowp + WC;
        end
        if (end_group) begin
          iy <= iy0; rowp <= base;
        end
        if (end_position) begin
          ix <= ix0 + SX; ix0 <= ix0 + SX; off <= off0 + SX*CS; off0 <= off0 + SX*CS;
        end
        if (end_row) begin
          prepare <= 2'd2;
          ix <= -PL; ix0 <= -PL; off <= -PL*CS; off0 <= -PL*CS;
          oy <= last_oy ? 0 : oy + 1'b1;
          start <= last_oy ? TOP : start + SY;
          iy <= start; iy0 <= start;
          base <= wrapped; rowp <= wrapped;
          need <= needed > dropped ? needed[RB-1:0] : dropped[RB-1:0]; drop <= dropped[RB-1:0];
        end
      end
    end
  end

  // a stage for the address, one for the memory, and one behind it, for its answer takes most of a cycle
  reg [AD-1:0] rp;
  reg [DW-1:0] waddr1, waddr2;
  reg go1, go2, first1, first2, last1, last2, outside1, outside2, outside3;
  reg [SIMD*XB-1:0] read1, read2;
  always @(posedge clk) begin
    go1 <= go && !rst; first1 <= first; last1 <= end_group; waddr1 <= waddr;
    go2 <= go1 && !rst; first2 <= first1; last2 <= last1; waddr2 <= waddr1;
    rp <= rowp + off[AD-1:0];
    outside1 <= PADDED && (iy < 0 || iy >= BOTTOM || ix < 0 || ix >= W);
    outside2 <= outside1; outside3 <= outside2;
    read1 <= mem[rp]; read2 <= read1;
  end
  wire [SIMD*XB-1:0] word = outside3 ? (PAD == 1 && XB == 1 ? {SIMD*XB{1'b1}} : {SIMD*XB{1'b0}}) : read2;
  bnn_mac #(.PE(PE), .SIMD(SIMD), .XB(XB), .SF(SF), .NF(NF), .AW(AW), .THRESH(1), .LOG(LOG), .WK(WK), .WFILE(WFILE),
            .TFILE(TFILE)) mac (
    .clk(clk), .rst(rst), .set_out(go && first), .issue(go2), .issue_first(first2), .issue_last(last2),
    .issue_zero(PAD == 0 && PADDED && outside2), .x(word), .waddr(waddr2), .credit(credit),
    .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));
endmodule
`default_nettype wire
