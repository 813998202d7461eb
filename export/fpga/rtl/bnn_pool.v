// The OR of windows of bits that touch: one word for each window and group of channels is kept and combined.
`default_nettype none
module bnn_pool #(
  parameter B = 8,            // bits of a word
  parameter CS = 1,           // words at a position
  parameter W = 8,            // columns and rows of the incoming map
  parameter H = 8,
  parameter KX = 2,           // columns and rows of a window
  parameter KY = 2
) (
  input  wire clk,
  input  wire rst,
  input  wire in_valid,
  output wire in_ready,
  input  wire [B-1:0] in_data,
  output wire out_valid,
  input  wire out_ready,
  output wire [B-1:0] out_data
);
  localparam OW = W / KX;
  localparam OH = H / KY;
  localparam DEPTH = OW*CS;
  localparam AD = DEPTH > 1 ? $clog2(DEPTH) : 1;
  localparam LOG = 3;
  /* verilator lint_off WIDTHTRUNC */
  localparam [$clog2(OW+2)-1:0] COLS = OW;
  localparam [$clog2(OH+2)-1:0] ROWS = OH;
  /* verilator lint_on WIDTHTRUNC */
  (* no_rw_check *)  // see `forward`
  reg [B-1:0] mem [0:DEPTH-1];
  reg [$clog2(CS+1)-1:0] s;
  reg [$clog2(KX+1)-1:0] kx;
  reg [$clog2(KY+1)-1:0] ky;
  reg [$clog2(OW+2)-1:0] ox;
  reg [$clog2(OH+2)-1:0] oy;
  reg [$clog2(W+1)-1:0] x;
  reg [$clog2(H+1)-1:0] y;
  reg [AD-1:0] at;            // of the word in the memory
  reg [AD-1:0] at0;           // of the first word of the window
  wire credit;
  assign in_ready = credit;
  wire take = in_valid && in_ready;
  wire end_s = s == CS - 1;
  wire end_x = end_s && x == W - 1;
  wire end_y = end_x && y == H - 1;
  wire whole = ox < COLS && oy < ROWS;
  wire first = kx == 0 && ky == 0;
  wire last = kx == KX - 1 && ky == KY - 1;
  always @(posedge clk) begin
    if (rst) begin
      s <= 0; kx <= 0; ky <= 0; ox <= 0; oy <= 0; x <= 0; y <= 0; at <= 0; at0 <= 0;
    end else if (take) begin
      s <= end_s ? 0 : s + 1'b1;
      at <= at + 1'b1;
      if (end_s) begin
        x <= end_x ? 0 : x + 1'b1;
        kx <= end_x || kx == KX - 1 ? 0 : kx + 1'b1;
        at <= at0;
        if (kx == KX - 1) begin
          ox <= ox + 1'b1; at0 <= at0 + CS; at <= at0 + CS;
        end
        if (end_x) begin
          ox <= 0; at0 <= 0; at <= 0;
          y <= end_y ? 0 : y + 1'b1;
          ky <= end_y || ky == KY - 1 ? 0 : ky + 1'b1;
          if (end_y) oy <= 0;
          else if (ky == KY - 1) oy <= oy + 1'b1;
        end
      end
    end
  end
  // the word before, from the memory or, if it is being written in this very cycle, from there
  reg v1, first1, last1, forward;
  reg [AD-1:0] at1;
  reg [B-1:0] d1, kept, recent;
  wire [B-1:0] joined = d1 | (first1 ? {B{1'b0}} : forward ? recent : kept);
  always @(posedge clk) begin
    v1 <= take && whole && !rst; first1 <= first; last1 <= last; at1 <= at; d1 <= in_data;
    kept <= mem[at];
    forward <= v1 && at1 == at;
    recent <= joined;
    if (v1) mem[at1] <= joined;
  end
  bnn_credit #(.LOG(LOG)) places (
    .clk(clk), .rst(rst), .take(take && whole && last), .give(out_valid && out_ready), .ok(credit));
  bnn_fifo #(.W(B), .LOG(LOG)) results (
    .clk(clk), .rst(rst), .push(v1 && last1), .in_data(joined),
    .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));
endmodule
`default_nettype wire
